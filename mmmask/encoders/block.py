"""The transformer block of timm's vision transformers, over packed tokens; parameters have timm's names."""

from jaxtyping import Float
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from ..batch import Segments
from .attention import attend


class Attention(nn.Module):
    """Multi-head self-attention inside segments."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "n d"], segments: Segments) -> Float[Tensor, "n d"]:
        """Return what each token gathers from its segment."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        return self.proj(attend(q, k, v, segments).flatten(1))


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, dim: int, heads: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "n d"], segments: Segments) -> Float[Tensor, "n d"]:
        """Return the tokens after one block."""
        x = x + self.drop_path(self.attn(self.norm1(x), segments))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def init_weights(module: nn.Module) -> None:
    """Xavier-uniform linear layers with zero biases, as MAE has them."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
