"""The masked autoencoder: tokenizers and heads of each modality around one encoder and one decoder."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .batch import EncoderOutput, Signals, Span, TokenBatch
from .config import ModelConfig
from .corruption import CORRUPTIONS
from .decoders import DECODERS
from .encoders import ENCODERS
from .encoders.block import init_weights
from .encoders.positions import PositionEmbedding
from .modality import Modality


class MaskedAutoencoder(nn.Module):
    """Between a modality's tokenizer and its head nothing asks which modality a token came from.

    config: sizes and the choice on each axis. modalities: by name, in the order of a pack's spans.
    """

    def __init__(self, config: ModelConfig, modalities: dict[str, Modality]) -> None:
        super().__init__()
        dim, width = config.dim, config.decoder_dim
        self.encoder = ENCODERS[config.encoder](dim, config.depth, config.heads, config.drop_path)
        self.decoder = DECODERS[config.decoder](dim, width, config.decoder_depth, config.decoder_heads)
        self.corruption = CORRUPTIONS[config.corruption](dim)
        self.positions, self.decoder_positions = PositionEmbedding(dim), PositionEmbedding(width)
        self.apply(init_weights)
        self.adapters = nn.ModuleDict({name: modality.adapter(dim, width) for name, modality in modalities.items()})
        self.modality = nn.Embedding(len(modalities), dim)
        self.decoder_modality = nn.Embedding(len(modalities), width)
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=0.02))
        for embedding in (self.modality, self.decoder_modality):
            nn.init.normal_(embedding.weight, std=0.02)

    def embed(
        self, batch: TokenBatch, rows: dict[str, Int[Tensor, " k"]], index: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Return encoder tokens: what each holds + where it stands.

        rows: which tokens of each modality's span. index: the same tokens in the pack, in the same order.
        """
        return self.contents(batch, rows) + self.stands(batch, rows, index)

    def contents(self, batch: TokenBatch, rows: dict[str, Int[Tensor, " k"]]) -> Float[Tensor, "n d"]:
        """Return what tokens hold, embedded."""
        return torch.cat([self.adapters[name].tokenize(span.at(rows[name])) for name, span in batch.spans.items()])

    def stands(
        self, batch: TokenBatch, rows: dict[str, Int[Tensor, " k"]], index: Int[Tensor, " n"]
    ) -> Float[Tensor, "n d"]:
        """Return where tokens stand, embedded for the encoder: modality, position, size, and the modality's own."""
        own = {name: self.adapters[name].place(span.at(rows[name])) for name, span in batch.spans.items()}
        nowhere = self.modality.weight.new_zeros(1, self.modality.embedding_dim)
        return (
            torch.cat([nowhere.expand(len(rows[name]), -1) if place is None else place for name, place in own.items()])
            + self.modality(batch.modality[index])
            + self.positions(batch.positions[index], batch.extent[index])
        )

    def encode(self, batch: TokenBatch, maps: bool = False) -> EncoderOutput:
        """Return the encoder's output for the context (and the hidden tokens, where the corruption keeps them).

        A corruption changes what a token holds, never where it stands.
        """
        rows = {name: span.context for name, span in batch.spans.items()}
        contents, stands, segments = self.contents(batch, rows), self.stands(batch, rows, batch.context), batch.read
        gate = contents.new_ones(len(contents))
        if self.corruption.keeps_hidden:
            hidden = {name: span.query for name, span in batch.spans.items()}
            contents = torch.cat([contents, self.contents(batch, hidden)])
            stands = torch.cat([stands, self.stands(batch, hidden, batch.query)])
            gate = torch.cat([gate, gate.new_zeros(len(batch.query))])
            segments = batch.decode
        return self.encoder(self.corruption(contents, gate) + stands, segments, maps)

    def places(self, batch: TokenBatch, which: str) -> Float[Tensor, "k w"]:
        """Return where the 'context' or the 'query' tokens stand, for the decoder."""
        index = getattr(batch, which)
        parts = []
        for name, span in batch.spans.items():
            asked = self.adapters[name].ask(span.at(getattr(span, which)))
            parts.append(
                self.mask_token.new_zeros(len(getattr(span, which)), len(self.mask_token)) if asked is None else asked
            )
        return (
            torch.cat(parts)
            + self.decoder_modality(batch.modality[index])
            + self.decoder_positions(batch.positions[index], batch.extent[index])
        )

    def forward(self, batch: TokenBatch) -> Signals:
        """Return everything the losses may read."""
        encoded = self.encode(batch)
        queries = self.mask_token + self.places(batch, "query")
        decoded = self.decoder(encoded, queries, self.places(batch, "context"), batch)
        predictions = {
            name: self.adapters[name].predict(decoded[where], _asked(batch.spans[name]))
            for name, where in batch.queries()
        }
        return Signals(batch, encoded, decoded, predictions)


def _asked(span: Span) -> dict[str, Tensor]:
    return span.at(span.query)
