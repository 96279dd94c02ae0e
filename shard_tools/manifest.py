"""Read and write `manifest.json`, which says what a data set is and which shards count, and the data card beside it."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from .errors import Misuse, Problem
from .schema import FORMAT, Manifest
from .storage import Storage, atomic

NAME = "manifest.json"
STATE = ".build"  # folder of a build that is not finished
SHARD = re.compile(r"[A-Za-z0-9_-]+\.tar")  # a manifest of unknown origin must not lead out of its folder
CARD_ITEMS = 12  # of a long list the card shows no more


def read_manifest(root: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of a data set.

    Raises Misuse where there is no data set, and Problem for a manifest that is broken, of something else or of
    another version of the format.
    """
    storage = Storage(root)
    path = storage.url(NAME)
    try:
        text = storage.read(NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        begun = storage.exists(STATE)
        what = "an unfinished build: the shard-build that began it goes on" if begun else "shard-build makes one"
        raise Misuse(f"{storage.root}: no data set here ({NAME} is missing); {what}") from error
    except OSError as error:
        raise Problem(f"not readable: {error}") from error
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Problem(f"{path}: broken JSON: {error}; build the data set again") from error
    if not isinstance(data, dict) or "format" not in data or "shards" not in data:
        raise Misuse(f"{path}: not the manifest of a shard data set")
    if data["format"] != FORMAT:
        raise Problem(f"{path}: format {data['format']!r}; this version reads format {FORMAT}")
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise Problem(f"{path}: {place}: {first['msg']}; build the data set again") from error
    if wrong := [shard.name for shard in manifest.shards if not SHARD.fullmatch(shard.name)]:
        raise Problem(f"{path}: shard {wrong[0]!r}: not a file name of a shard")
    return manifest


def write_manifest(root: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write a data set's manifest in one step: a reader sees the old one or the new one."""
    with atomic(root, NAME) as file:
        file.write((manifest.model_dump_json(indent=2) + "\n").encode())


def write_card(root: str | os.PathLike[str], manifest: Manifest, features: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write README.md: a data card for people, whose YAML head makes Hugging Face `load_dataset(root)` work.

    features: types of the parts as Hugging Face's `dataset_info` has them; without, it finds them out by itself.
    """
    from jinja2 import Environment, StrictUndefined  # here, since reading does without

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    template = environment.from_string(files(__package__).joinpath("templates/card.md.j2").read_text("utf-8"))
    shards = {split: [shard for shard in manifest.shards if shard.split == split] for split in manifest.splits}
    splits = {
        split: {"samples": manifest.splits[split], "shards": len(own), "bytes": sum(shard.bytes for shard in own)}
        for split, own in shards.items()
        if own  # Hugging Face fails on a pattern without files
    }
    shas = "".join(shard.sha256 for shard in manifest.shards)
    text = template.render(
        m=manifest,
        # Hugging Face keeps what it has loaded, and would tell data sets apart by their names and files' names alone.
        version=int(hashlib.sha256(shas.encode()).hexdigest()[:8], 16),
        features=list(features),
        splits=splits,
        hf_splits={"val": "validation"},
        limit=CARD_ITEMS,
        statistics=_brief_json(manifest.statistics),
        build=_brief_json({"config": manifest.build.config, "versions": manifest.build.versions}),
    )
    with atomic(root, "README.md") as file:
        file.write(text.encode())


def _cell(text: str) -> str:
    """Return a text that stays inside one cell of a Markdown table and is no markup."""
    text = " ".join(str(text).split())
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in text)


def _brief_json(value: Any) -> str:
    return json.dumps(_brief(value), indent=1, ensure_ascii=False)


def _brief(value: Any) -> Any:
    """Return the value with four digits a number and the first items of long lists."""
    if isinstance(value, dict):
        return {key: _brief(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        short = [_brief(inner) for inner in value[:CARD_ITEMS]]
        return [*short, f"… {len(value)} in all"] if len(value) > CARD_ITEMS else short
    return value
