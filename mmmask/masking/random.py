"""Random masking: every token is as likely as any other (He et al., Masked Autoencoders, section 3)."""

import numpy as np
from jaxtyping import Float

from ..batch import View


def scores(view: View, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """Return a uniform number a token."""
    return rng.random(len(view))
