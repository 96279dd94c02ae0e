"""Train one masked autoencoder on shard data sets of any modalities: `python -m mmmask.train`."""

import json
from pathlib import Path

from shard_tools.arguments import Parser, needs, run
from shard_tools.errors import Misuse

with needs("mmmask.train", extra="train"):
    from .config import keys, load_config, view_keys
    from .data.stream import Packs, open_sources
    from .run import make_objective, open_run
    from .training.distributed import join, leader_first, leave
    from .training.held_out import masked_errors
    from .training.loop import train

EXAMPLES = """
examples:
  python -m mmmask.train --config configs/train/demo.yaml --data data/photos data/clips --output runs/first
  python -m mmmask.train --config configs/train/demo.yaml --data data/photos --output runs/long --steps 5000 \\
      --optim.lr 3e-4 --modalities.image.ratio 0.6 --modalities.image.view.size 96
  python -m mmmask.train --data data/photos+data/photos_depth --output runs/layers
  torchrun --nproc-per-node 2 -m mmmask.train --config configs/train/demo.yaml --data data/photos \\
      --output runs/two --packs 2

The same command goes on where a run stopped. A run leaves: config.yaml, spec.json, checkpoints/, metrics.jsonl,
tensorboard/ and results.json (masked error on held-out samples beside a trivial predictor's).

config keys, each also a flag (default):
"""


def make_parser() -> Parser:
    """Return the parser; its help lists every key of the config."""
    rows = keys() + [row for name in ("image", "video", "lidar", "audio", "table") for row in view_keys(name)]
    listed = "\n".join(f"  --{key} ({default})\n        {text}" for key, default, text in rows)
    parser = Parser(prog="python -m mmmask.train", description=__doc__, epilog=EXAMPLES + listed)
    parser.add_argument("--config", metavar="FILE", help="YAML file; without it, the defaults below")
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="DIR",
        required=True,
        help="shard data sets, of any modalities; A+B reads an overlay's layers beside its base",
    )
    parser.add_argument("--output", metavar="RUN", help="folder of the run", required=True)
    return parser


def main(argv: list[str]) -> None:
    """Read the arguments and the data, train, write results.json."""
    args, rest = make_parser().parse_known_args(argv)
    sources = open_sources(args.data, "train")
    if not sources:
        raise Misuse(f"no training samples in {', '.join(args.data)}")
    config = load_config(args.config, overrides(rest), list(sources))
    folder = Path(args.output)
    world = join(config.run.device)
    try:
        if config.packs % world.size:
            raise Misuse(
                f"packs {config.packs} is not a multiple of the {world.size} processes; use --packs {world.size}"
            )
        modalities = leader_first(world, lambda: open_run(folder, config, sources))
        objective = make_objective(config, modalities)
        train(config, objective, Packs(config, sources, modalities), folder, world)
        if world.leads and config.run.held_out:
            held_out = Packs(config, open_sources(args.data, "val"), modalities, train=False)
            results = masked_errors(objective.model, held_out, config.run.held_out)
            (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            print(_table(results))
    finally:
        leave()


def overrides(rest: list[str]) -> list[str]:
    """Turn '--a.b value' and '--a.b=value' into 'a.b=value'. Raises Misuse for anything else."""
    pairs, words = [], list(rest)
    while words:
        flag = words.pop(0)
        if not flag.startswith("--"):
            raise Misuse(f"unexpected argument {flag!r}; see --help")
        if "=" in flag:
            pairs.append(flag[2:])
        elif words:
            pairs.append(f"{flag[2:]}={words.pop(0)}")
        else:
            raise Misuse(f"{flag} needs a value")
    return pairs


def _table(results: dict) -> str:
    lines = [f"{'held out':<10}{'error':>10}{'trivial':>10}{'ratio':>8}"]
    for name, row in results["modalities"].items():
        lines.append(f"{name:<10}{row['error']:>10.4f}{row['trivial_error']:>10.4f}{row['error_ratio']:>8.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    run("mmmask.train", main)
