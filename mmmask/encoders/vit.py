"""The packed vision transformer: timm's block layout over tokens of any modality."""

from jaxtyping import Float
from torch import Tensor, nn

from ..batch import EncoderOutput, Segments
from .block import Block


class VisionTransformer(nn.Module):
    """Blocks and a final norm, named as timm names them, so that timm's ViT weights load."""

    layout = "packed"

    def __init__(self, dim: int, depth: int, heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(dim, heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, tokens: Float[Tensor, "c d"], segments: Segments, maps: bool = False) -> EncoderOutput:
        """Return the latents; with `maps`, also the tokens after each block."""
        inner = []
        for block in self.blocks:
            tokens = block(tokens, segments)
            if maps:
                inner.append(tokens)
        return EncoderOutput(self.norm(tokens), inner)
