"""The real tables that scikit-learn carries, with 5 to 10 % of the measured cells removed at random."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.utils import Bunch

# File name and loader; the names also say the format: comma, semicolon and tab between cells, and Parquet.
TABLES: tuple[tuple[str, Callable], ...] = (
    ("iris.csv", load_iris),
    ("wine.csv", load_wine),
    ("breast_cancer.tsv", load_breast_cancer),
    ("diabetes.parquet", load_diabetes),
)
SEPARATORS = {"wine.csv": ";", "breast_cancer.tsv": "\t"}
COUNT = len(TABLES)


def make(index: int, folder: Path) -> None:
    """Write table `index`: measured columns with cells missing, then the whole `target`, named if a class."""
    name, load = TABLES[index]
    rng = np.random.default_rng([4, index])
    bunch = load(as_frame=True) if load is not load_diabetes else load(as_frame=True, scaled=False)
    measured = bunch.data.mask(rng.random(bunch.data.shape) < rng.uniform(0.05, 0.1))
    table = measured.assign(target=named(bunch))
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        table.to_parquet(folder / name, index=False)
    else:
        table.to_csv(folder / name, index=False, sep=SEPARATORS.get(name, ","))


def named(bunch: Bunch) -> pd.Series:
    """The target column, class numbers replaced by class names."""
    if "target_names" not in bunch:
        return bunch.target
    return bunch.target.map(dict(enumerate(bunch.target_names))).astype("category")
