"""One self-contained page of a run: results, reconstructions, curves, data cards: `python -m mmmask.report`."""

import base64
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from shard_tools.arguments import Parser, needs, run
from shard_tools.errors import Misuse
from shard_tools.inspect import summary

with needs("mmmask.report", extra="train"):
    from .data.stream import Packs, open_sources, split_path
    from .pictures import loss_figure, reconstruction_figure, reconstructions, to_bytes, write
    from .run import load_run, read_data

EXAMPLES = """
examples:
  python -m mmmask.report --run runs/first --out report.html
"""


def make_parser() -> Parser:
    """Return the parser."""
    parser = Parser(prog="python -m mmmask.report", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--run", required=True, metavar="RUN", help="folder that mmmask.train wrote")
    parser.add_argument("--out", required=True, metavar="FILE.html", help="page to write")
    parser.add_argument("--count", type=int, default=2, help="reconstructions a modality (default: 2)")
    return parser


def main(argv: list[str]) -> None:
    """Gather everything and write the page."""
    args = make_parser().parse_args(argv)
    folder, out = Path(args.run), Path(args.out)
    if args.count < 1:
        raise Misuse(f"--count {args.count}: at least 1")
    config, modalities, model, step = load_run(folder)
    paths = read_data(folder)
    packs = Packs(config, open_sources(paths, "val") or open_sources(paths, "train"), modalities, train=False)
    results = reconstructions(model, packs, args.count)
    environment = Environment(
        loader=PackageLoader("mmmask"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        name=folder.name,
        step=step,
        parameters=sum(p.numel() for p in model.parameters()),
        results=_results(folder),
        pictures={
            name: _embed(reconstruction_figure(packs, {name: of_modality}), "png")
            for name, of_modality in results.items()
            if of_modality
        },
        losses=_embed(loss_figure(folder), "svg"),
        last=json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]),
        cards=[summary(root) for path in paths for root in split_path(path)],
        config=(folder / "config.yaml").read_text(),
        environment={"python": platform.python_version(), "machine": platform.machine()}
        | {package: version(package) for package in ("mmmask", "torch", "timm", "numpy")},
    )
    write(out, page.encode())
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    return json.loads(path.read_text())["modalities"] if path.exists() else {}


def _embed(figure: Any, kind: str) -> str:
    """Return a figure as a data URI."""
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{mime};base64,{base64.b64encode(to_bytes(figure, kind)).decode()}"


if __name__ == "__main__":
    run("mmmask.report", main)
