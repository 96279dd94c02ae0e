"""AdamW with warm-up and cosine, as masked autoencoders are trained (He et al., appendix A.1)."""

import math

import torch
from torch import nn

from ..config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW; weight decay only on matrices of linear layers, not on biases, norms, tokens and embeddings."""
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in decayed], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Return the rate of step 0..steps−1: linear up to `lr`, then half a cosine down to `min_lr`."""
    warmup = min(config.warmup, steps - 1)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
