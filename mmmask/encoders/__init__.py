"""Encoders: packed tokens and their attention segments → EncoderOutput."""

from .vit import VisionTransformer

ENCODERS = {"vit": VisionTransformer}
