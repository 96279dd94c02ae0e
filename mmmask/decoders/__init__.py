"""Decoders: the encoder's output and the queries → a vector a query."""

from .self_attention import SelfAttention

DECODERS = {"self_attention": SelfAttention}
