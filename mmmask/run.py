"""A run's folder: config.yaml, spec.json, checkpoints, metrics, results; opened, checked and loaded here.

Everything that is needed to use the encoder stands in it; the data sets may be gone.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
import yaml

from shard_tools.errors import Misuse, Problem

from .config import Config, parse, save_config
from .data.stream import Source, split_path
from .modality import Modality, get_modality
from .model import MaskedAutoencoder
from .training import checkpoint
from .training.objective import Objective


def open_run(folder: Path, config: Config, sources: dict[str, Source]) -> dict[str, Modality]:
    """Make a new run's folder, or check that an old one is of the same config; return its modalities.

    Raises Misuse for a folder that is not a run, or is one of another config, naming the first key that differs.
    """
    spec = {name: _describe(name, source) for name, source in sources.items()}
    if (folder / "config.yaml").exists():
        _same(folder, config, spec)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misuse(f"{folder} exists and is not a run of ours; give another --output")
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "spec.json").write_text(json.dumps(spec))
            roots = [dataset.root for source in sources.values() for dataset in source.datasets]
            (folder / "data.json").write_text(json.dumps([_absolute(root) for root in roots]))
            save_config(config, folder / "config.yaml")
        except OSError as error:
            raise Misuse(f"{folder}: no run can be written there: {error.strerror}") from None
    return make_modalities(config, spec)


def _describe(name: str, source: Source) -> dict[str, Any]:
    try:
        return get_modality(name).describe([dataset.manifest for dataset in source.datasets])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        roots = ", ".join(dataset.root for dataset in source.datasets)
        raise Problem(f"{roots}: the manifest's statistics do not hold {error}; build the data set again") from None


def _absolute(path: str) -> str:
    """Return a path of data sets as it is called from any folder."""
    return "+".join(root if "://" in root else os.path.abspath(root) for root in split_path(path))


def read_data(folder: Path) -> list[str]:
    """Return where a run's data sets stood when it began."""
    return json.loads((folder / "data.json").read_text())


def make_modalities(config: Config, spec: dict[str, Any]) -> dict[str, Modality]:
    """Return the modalities of a run by name, in the order of its packs."""
    made = {}
    for name, settings in config.modalities.items():
        cls = get_modality(name)
        made[name] = cls(parse(settings.view, cls.Options, f"modalities.{name}.view"), spec[name])
    return made


def make_objective(config: Config, modalities: dict[str, Modality]) -> Objective:
    """Return the network with its first weights, drawn from the seed."""
    torch.manual_seed(config.seed)
    return Objective(config, MaskedAutoencoder(config.model, modalities))


def load_run(folder: Path) -> tuple[Config, dict[str, Modality], MaskedAutoencoder, int]:
    """Return a run's config, modalities, newest weights on the CPU and their step. Raises Misuse or Problem."""
    if not (folder / "config.yaml").exists():
        raise Misuse(f"{folder} is not a run: no config.yaml there; give a --output of mmmask.train")
    raw, spec = _saved(folder)
    config = parse(raw, Config, "")
    modalities = make_modalities(config, spec)
    state = checkpoint.load(folder / "checkpoints")
    if state is None:
        raise Problem(f"{folder} has no checkpoint yet; let mmmask.train run to its first one (run.save_every)")
    objective = make_objective(config, modalities)
    objective.load_state_dict(state["objective"])
    return config, modalities, objective.model.eval(), state["step"]


def _same(folder: Path, config: Config, spec: dict[str, Any]) -> None:
    before, known = _saved(folder)
    now = config.model_dump(mode="json")
    for key in sorted({*_flat(before), *_flat(now)}):
        if not key.startswith("run.") and _flat(before).get(key) != _flat(now).get(key):
            old, new = _flat(before).get(key), _flat(now).get(key)
            raise Misuse(f"{folder} is a run of another config: {key} was {old} and is {new}; give another --output")
    if known != json.loads(json.dumps(spec)):
        raise Misuse(f"{folder} is a run on other data sets (their statistics differ); give another --output")


def _saved(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the config and the spec of a run's folder, as they stand there. Raises Problem where they are broken."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        spec = json.loads((folder / "spec.json").read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Problem(f"{folder} is not a whole run: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not isinstance(spec, dict):
        raise Problem(f"{folder} is not a whole run: its config.yaml or spec.json is not a mapping")
    return config, spec


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return {dotted key: value} of a nested config."""
    if not isinstance(config, dict):
        return {prefix: config}
    return {
        k: v for key, value in config.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()
    }
