"""Training configs: typed, from YAML with dotted overrides, typos answered with the nearest key."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yaml import YAMLError

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse

from .modality import get_modality

Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a config: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(Section):
    """Sizes, and the choice on each axis of the network."""

    dim: int = Field(192, gt=0, description="width of the encoder")
    depth: int = Field(6, gt=0, description="blocks of the encoder")
    heads: int = Field(3, gt=0, description="attention heads of the encoder")
    decoder_dim: int = Field(128, gt=0, description="width of the decoder")
    decoder_depth: int = Field(2, gt=0, description="blocks of the decoder")
    decoder_heads: int = Field(4, gt=0, description="attention heads of the decoder")
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last encoder block")
    encoder: Literal["vit"] = Field("vit", description="what turns tokens into latents")
    decoder: Literal["self_attention"] = Field("self_attention", description="what answers the queries")
    corruption: Literal["drop", "mask_token"] = Field("drop", description="what the encoder gets for a hidden token")

    @model_validator(mode="after")
    def _heads_divide(self) -> "ModelConfig":
        for width, heads in (("dim", "heads"), ("decoder_dim", "decoder_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{width} {getattr(self, width)} is not a multiple of {heads} {getattr(self, heads)}")
        return self


class ModalityConfig(Section):
    """How one modality takes part."""

    samples: int = Field(16, gt=0, description="samples of it in every pack")
    ratio: float = Field(0.75, gt=0, lt=1, description="share of tokens that is hidden")
    masking: Literal["random"] = Field("random", description="masking strategy")
    weight: float = Field(1.0, ge=0, description="of its loss in the total")
    view: dict[str, Any] = Field({}, description="how a sample is cut into tokens; keys depend on the modality")


class LossConfig(Section):
    """A term of the loss."""

    name: Literal["reconstruction", "latents"] = Field("reconstruction", description="which term")
    weight: float = Field(1.0, description="of the term in the total")


class OptimConfig(Section):
    """AdamW with linear warm-up and a half cosine."""

    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    min_lr: float = Field(1e-5, ge=0, description="learning rate of the last step")
    warmup: int = Field(40, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.05, ge=0, description="not applied to biases, norms and embeddings")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), description="of AdamW")
    clip: float = Field(1.0, gt=0, description="greatest norm of the gradient")


class RunConfig(Section):
    """What changes speed and watching, never the result, but for the rounding of another precision."""

    workers: int = Field(1, ge=0, description="loader processes a rank")
    log_every: int = Field(10, gt=0, description="steps between two lines of metrics.jsonl")
    save_every: int = Field(200, gt=0, description="steps between two checkpoints")
    keep: int = Field(2, gt=0, description="newest checkpoints that stay")
    held_out: int = Field(64, ge=0, description="val samples a modality for results.json; 0: none")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPUs that have it")


class Config(Section):
    """A training run. Everything outside `run` decides the result."""

    seed: int = Field(0, ge=0, lt=2**63, description="of weights, order, crops and masks")
    steps: int = Field(1000, gt=0, description="optimiser steps")
    packs: int = Field(1, gt=0, description="packs of a global step; a multiple of the number of ranks")
    max_dropped: int = Field(20, ge=0, description="unreadable samples after which the run stops")
    teachers: list[Literal["ema"]] = Field([], description="networks that say something about the hidden tokens")
    losses: list[LossConfig] = Field([LossConfig()], min_length=1, description="terms of the loss")
    modalities: dict[str, ModalityConfig] = Field({}, description="which take part, and how; a data set's own is added")
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _losses_have_teachers(self) -> "Config":
        if any(loss.name == "latents" for loss in self.losses) and "ema" not in self.teachers:
            raise ValueError("the loss 'latents' needs teachers: [ema]")
        return self


def load_config(path: str | None, overrides: list[str], modalities: list[str]) -> Config:
    """Read a YAML file, lay dotted overrides ('optim.lr=1e-4') over it, fill in what the data's modalities need.

    modalities: of the data; others that the file names are left out. Raises Misuse, one line, naming the key.
    """
    merged = _merge(path, overrides)
    known = merged.get("modalities") or {}
    if not isinstance(known, dict):
        raise Misuse(f"config key modalities: give names of modalities and the keys of each, not {known!r}")
    for name, settings in known.items():
        get_modality(str(name))
        if settings is not None and not isinstance(settings, dict):
            raise Misuse(f"config key modalities.{name}: give its keys (modalities.{name}.samples …), not {settings!r}")
    merged["modalities"] = {name: _with_view(name, known.get(name) or {}) for name in modalities}
    return parse(merged, Config, "")


def _merge(path: str | None, overrides: list[str]) -> dict[str, Any]:
    """Return a YAML file with overrides laid over it; the first that cannot be read becomes one line of Misuse."""
    where = f"config {path}"
    try:
        merged = OmegaConf.merge({}, OmegaConf.load(path) if path else {})
        for override in overrides:
            where = f"--{override}"
            merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([override]))
        where = "config"
        return cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))
    except FileNotFoundError:
        raise Misuse(f"config {path} does not exist") from None
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, TypeError) as error:
        raise Misuse(f"{where}: {' '.join(str(error).split())}") from None


def save_config(config: Config, path: Path) -> None:
    """Write the effective config as YAML."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def parse(raw: dict[str, Any], model: type[BaseModel], prefix: str) -> Any:
    """Validate a mapping; the first fault becomes one line of Misuse with the full key and the nearest valid one."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in (*([prefix] if prefix else []), *fault["loc"]))
        if fault["type"] == "extra_forbidden":
            raise Misuse(
                f"config key {key} is unknown{nearest(key.split('.')[-1], _fields(model, fault['loc'][:-1]))}"
            ) from None
        raise Misuse(f"config key {key or prefix or '(whole)'}: {fault['msg'].removeprefix('Value error, ')}") from None


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[tuple[str, str, str]]:
    """Return (dotted key, default, description) of every key, for --help."""
    rows = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += keys(field.annotation, f"{prefix}{name}.")
        elif name == "modalities":
            rows += keys(ModalityConfig, f"{prefix}modalities.NAME.")
        else:
            rows.append((prefix + name, _plain(field.default), field.description or ""))
    return rows


def view_keys(name: str) -> list[tuple[str, str, str]]:
    """Return the keys below modalities.NAME.view of one modality."""
    return keys(get_modality(name).Options, f"modalities.{name}.view.")


def _with_view(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    view = parse(raw.get("view") or {}, get_modality(name).Options, f"modalities.{name}.view")
    return {**raw, "view": view.model_dump(mode="json")}


def _fields(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Return the valid keys at a place of a config."""
    for part in path:
        if part in model.model_fields:
            annotation = model.model_fields[part].annotation
            model = (
                annotation
                if isinstance(annotation, type) and issubclass(annotation, BaseModel)
                else (ModalityConfig if part == "modalities" else LossConfig)
            )
    return list(model.model_fields)


def _plain(default: Any) -> str:
    """Return a default as YAML would say it."""
    if isinstance(default, list):
        return str([item.model_dump() if isinstance(item, BaseModel) else item for item in default])
    return str(default)
