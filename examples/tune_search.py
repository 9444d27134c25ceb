"""Three ways to search one space: every point, random points, a model of the scores.

A small network learns handwritten digits. Grid and random search are given the same
number of trials as Bayesian search and TPE, which stop hopeless trials early:

    python examples/tune_search.py            # a few minutes on two cores
    python examples/tune_search.py --quick    # seconds, to see that it works

The table has the best validation accuracy, that of the same configuration trained again
with other seeds, and how many epochs all trials took. Run it again with the same
`--folder`: it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

import kopt

SEARCHES: dict[str, dict[str, Any]] = {
    "grid": dict(sampler=kopt.tuning.Grid()),
    "random": dict(sampler=kopt.tuning.Random()),
    "TPE, stopped early": dict(sampler=kopt.tuning.TPE(), pruner=kopt.tuning.ASHA()),
    "Bayesian, stopped early": dict(
        sampler=kopt.tuning.Bayesian(), pruner=kopt.tuning.ASHA()
    ),
}


def data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Digits for training and for validation."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, validation = order[:800], order[800:]
    return (x[train], y[train]), (x[validation], y[validation])


@dataclass(frozen=True)
class Plan:
    """A space and how long it is searched; a grid needs as many trials as it has."""

    trials: int = 72
    epochs: int = 9
    layers: int = 2
    units: tuple[int, ...] = (16, 32, 64)
    lowest_rate: float = 1e-4
    seeds: int = 3

    def build(self, hp: Any) -> keras.Model:
        """Written for Keras Tuner, it would be the same."""
        model = keras.Sequential([keras.Input((64,))])
        for _ in range(hp.Int("layers", 1, self.layers)):
            units = hp.Choice("units", list(self.units))
            model.add(keras.layers.Dense(units, activation="relu"))
        model.add(keras.layers.Dense(10, activation="softmax"))
        rate = hp.Float("rate", self.lowest_rate, 0.2048, step=2, sampling="log")
        model.compile(
            keras.optimizers.Adam(rate),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model


QUICK = Plan(trials=4, epochs=1, layers=1, units=(16, 64), lowest_rate=0.1024, seeds=1)


def search(name: str, plan: Plan, folder: Path) -> tuple[str, ...]:
    """One search; its row of the table."""
    train, validation = data()
    results = kopt.tuning.tune(
        plan.build,
        train,
        objective="val_accuracy",
        budget=kopt.tuning.Budget(trials=plan.trials),
        directory=folder,
        name=name.split(",")[0].lower(),
        validation_data=validation,
        epochs=plan.epochs,
        **SEARCHES[name],
    )
    again = [score for _, score in results.refit(seeds=plan.seeds)]
    trained = sum(row["epochs"] for row in results.rows())
    best = f"{results.best_score:.1%}"
    return name, best, f"{np.mean(again):.1%}", str(trained)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few trials and epochs")
    parser.add_argument("--folder", type=Path, help="where to keep the searches")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    table = Table("search", "best trial", "trained again", "epochs")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name in SEARCHES:
            table.add_row(*search(name, plan, folder))
    Console().print(table)


if __name__ == "__main__":
    main()
