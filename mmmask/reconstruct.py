"""Draw what a trained model makes of hidden tokens: `python -m mmmask.reconstruct`."""

from pathlib import Path

from shard_tools.arguments import Parser, needs, run
from shard_tools.errors import Misuse, Problem
from shard_tools.schema import SPLITS

with needs("mmmask.reconstruct", extra="train"):
    from .data.stream import Packs, open_sources
    from .pictures import reconstruction_figure, reconstructions, to_bytes, write
    from .run import load_run, read_data

EXAMPLES = """
examples:
  python -m mmmask.reconstruct --run runs/first --out reconstructions.png
  python -m mmmask.reconstruct --run runs/first --data data/other_photos --split train --count 4 --out others.png
"""


def make_parser() -> Parser:
    """Return the parser."""
    parser = Parser(prog="python -m mmmask.reconstruct", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--run", required=True, metavar="RUN", help="folder that mmmask.train wrote")
    parser.add_argument("--out", required=True, metavar="FILE.png", help="picture to write: .png, .svg or .pdf")
    parser.add_argument("--data", nargs="+", metavar="DIR", help="data sets to draw from; without it, the run's own")
    parser.add_argument("--split", choices=SPLITS, help="split to draw from (default: val; train where there is none)")
    parser.add_argument("--count", type=int, default=2, help="samples a modality (default: 2)")
    return parser


def main(argv: list[str]) -> None:
    """Load the run, reconstruct, write the picture."""
    args = make_parser().parse_args(argv)
    out = Path(args.out)
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise Misuse(f"--out {out}: give a name that ends in .png, .svg or .pdf")
    if args.count < 1:
        raise Misuse(f"--count {args.count}: at least 1")
    config, modalities, model, step = load_run(Path(args.run))
    paths = args.data or read_data(Path(args.run))
    splits = [args.split] if args.split else ["val", "train"]
    sources = next(filter(None, (open_sources(paths, split) for split in splits)), None)
    if not sources:
        raise Misuse(f"{', '.join(paths)}: no samples of the split {' or '.join(splits)}")
    if unknown := sorted(set(sources) - set(modalities)):
        raise Misuse(f"{args.run} never saw the modality {unknown[0]}; it knows {', '.join(modalities)}")
    packs = Packs(config, sources, modalities, train=False)
    results = reconstructions(model, packs, args.count)
    if not any(results.values()):
        raise Problem(f"no sample of {', '.join(paths)} could be read")
    write(out, to_bytes(reconstruction_figure(packs, results), out.suffix[1:]))
    print(f"{out}: {sum(map(len, results.values()))} samples after {step} steps")


if __name__ == "__main__":
    run("mmmask.reconstruct", main)
