"""How well the estimators' defaults do on small tables, beside tuned support vectors and kernel ridge.

    python -m benchmarks.tables [table ...]

Repeated nested cross-validation: each outer split tunes the peers on its training part alone. Both sides see
the same splits. Standard errors are those of a mean over all splits, of a score or of the difference; splits
share samples, so that they are a little too small.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table as Printed
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from ntkengine.estimators import NTKClassifier, NTKGaussianProcessRegressor, NTKRegressor

FOLDS = 5
GAMMAS = np.logspace(-4, 1, 6)


def tuned(estimator: Any, grid: dict[str, Any], inner: Any) -> Any:
    """The estimator on standardised columns, with the grid searched by inner cross-validation."""
    name = type(estimator).__name__.lower()
    parameters = {f"{name}__{key}": values for key, values in grid.items()}
    return GridSearchCV(make_pipeline(StandardScaler(), estimator), parameters, cv=inner)


INNER, INNER_CLASSES = (
    KFold(FOLDS, shuffle=True, random_state=0),
    StratifiedKFold(FOLDS, shuffle=True, random_state=0),
)
SVM = tuned(SVC(), {"C": np.logspace(-1, 3, 5), "gamma": GAMMAS}, INNER_CLASSES)
TENTHS, TENS = np.logspace(-4, 1, 6), np.logspace(-1, 4, 6)
REGRESSION_PEERS = {
    "RBF-SVM": tuned(SVR(), {"C": TENS, "gamma": GAMMAS, "epsilon": [0.1, 1.0, 10.0]}, INNER),
    "kernel ridge": tuned(KernelRidge(kernel="rbf"), {"alpha": TENTHS, "gamma": GAMMAS}, INNER),
}


@dataclass(frozen=True)
class Table:
    """A data set, who competes on it, and how often it is split."""

    load: Callable[..., Any]
    ours: dict[str, Any]
    peers: dict[str, Any]
    outer: type[Any]
    repeats: int = 10


CLASSES = {"NTKClassifier": NTKClassifier()}
VALUES = {"NTKRegressor": NTKRegressor(), "NTKGaussianProcessRegressor": NTKGaussianProcessRegressor()}
TABLES = {
    "iris": Table(load_iris, CLASSES, {"RBF-SVM": SVM}, StratifiedKFold),
    "wine": Table(load_wine, CLASSES, {"RBF-SVM": SVM}, StratifiedKFold),
    "breast cancer": Table(load_breast_cancer, CLASSES, {"RBF-SVM": SVM}, StratifiedKFold),
    "diabetes": Table(load_diabetes, VALUES, REGRESSION_PEERS, KFold),
    "digits": Table(load_digits, CLASSES, {"RBF-SVM": SVM}, StratifiedKFold, repeats=2),
}


def scores(table: Table) -> dict[str, Any]:
    """Accuracy or R^2 of each, (repetitions x folds)."""
    X, y = table.load(return_X_y=True)
    found: dict[str, list[list[float]]] = {name: [] for name in (*table.ours, *table.peers)}
    for repetition in range(table.repeats):
        splits = list(table.outer(FOLDS, shuffle=True, random_state=repetition).split(X, y))
        for name, estimator in (table.ours | table.peers).items():
            fitted = [(clone(estimator).fit(X[train], y[train]), test) for train, test in splits]
            found[name].append([model.score(X[test], y[test]) for model, test in fitted])
    return {name: np.array(values) for name, values in found.items()}


def mean_and_error(values: Any) -> tuple[float, float]:
    """Mean, and its standard error over all splits."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def rows(name: str, table: Table) -> list[dict[str, Any]]:
    """One row for each of ours and each peer."""
    found = scores(table)
    compared = []
    for ours in table.ours:
        for peer in table.peers:
            difference, paired = mean_and_error(found[ours] - found[peer])
            (mean, error), (peers_mean, peers_error) = map(mean_and_error, (found[ours], found[peer]))
            compared.append({
                "table": name, "ours": ours, "mean": mean, "error": error,
                "peer": peer, "peers_mean": peers_mean, "peers_error": peers_error,
                "difference": difference, "paired_error": paired,
                "not_worse": difference >= -paired,
            })  # fmt: skip
    return compared


def main(*names: str) -> int:
    """Print the comparison and, as the last line, its JSON.

    Returns:
        1 if one of ours is worse by more than a standard error of the difference.
    """
    torch.set_num_threads(1)
    printed = Printed("table", "ours", "score", "peer", "score", "difference", "not worse")
    all_rows, start = [], time.perf_counter()
    for name in names or TABLES:
        all_rows += rows(name, TABLES[name])
    for row in all_rows:
        printed.add_row(
            row["table"],
            row["ours"],
            f"{row['mean']:.4f} +- {row['error']:.4f}",
            row["peer"],
            f"{row['peers_mean']:.4f} +- {row['peers_error']:.4f}",
            f"{row['difference']:+.4f} +- {row['paired_error']:.4f}",
            str(row["not_worse"]),
        )
    Console(width=150).print(printed)
    print(json.dumps({"rows": all_rows, "seconds": round(time.perf_counter() - start)}))
    return int(not all(row["not_worse"] for row in all_rows))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
