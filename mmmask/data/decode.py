"""The codecs of stored payloads: JPEG and PNG by torchvision, clips by decord."""

import io

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


def decode_picture(data: bytes) -> UInt8[Tensor, "3 h w"]:
    """Return the pixels of a stored picture. Raises RuntimeError where the bytes are not one."""
    from torchvision.io import ImageReadMode, decode_image

    return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)


def decode_clip(data: bytes, frames: np.ndarray, height: int = -1, width: int = -1) -> UInt8[Tensor, "t 3 h w"]:
    """Return some frames of a stored clip, scaled to height × width where given. Raises RuntimeError on bad bytes."""
    import decord

    reader = decord.VideoReader(io.BytesIO(data), width=width, height=height, num_threads=1)
    return torch.from_numpy(reader.get_batch(frames).asnumpy()).permute(0, 3, 1, 2)
