"""Training with every optimizer of kopt, each at its best learning rate.

    python benchmarks/optimizer_training.py [--quick] [--task NAME] [--methods A,B]
        [--seeds N] [--results FILE]

A small CNN on Fashion-MNIST, a text classifier on SpamAssassin and an MLP on UCI's
letters, with Keras's Adam as the peer. The learning rate is searched for with seed 0,
in factors of 3 until the best lies between two worse ones (27 times the first guess or
a 27th of it at the furthest); seeds 1 to N then train at it, and the table has these
alone. Losses and accuracies are on validation data, with
the weights that the method evaluates at. The target is the peer's mean final loss plus
5 %. Seconds are those of training steps, without validation and without the first step,
in which the graph is made.

Each run is a line in the results file as soon as it ends; what is there is not run
again. Beside the file comes a plot, FILE.png. Data: `.ci/real_data PYTHON FOLDER`, and
KOPT_REAL_DIR=FOLDER.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from _methods import METHODS, PEER, missing, title
from _runs import Results, Run
from _tasks import TASKS, Part, Task
from _timing import CONSOLE, machine, table

FACTOR, WIDEST = 3.0, 3


def tuned(
    results: Results, task: Task, data: tuple[Part, Part], method: str, quick: bool
) -> float:
    """The best learning rate: one that lies between two worse ones."""

    def loss(power: int) -> float:
        rate = float(f"{METHODS[method].rate * FACTOR**power:.3g}")
        return results.get(task, data, method, rate, 0).final

    losses = {power: loss(power) for power in ((0,) if quick else (-1, 0, 1))}
    while not quick:
        best = min(losses, key=losses.get)
        further = [p for p in (best - 1, best + 1) if p not in losses]
        if not further or abs(further[0]) > WIDEST:
            break
        losses[further[0]] = loss(further[0])
    best = min(losses, key=losses.get)
    return float(f"{METHODS[method].rate * FACTOR**best:.3g}")


def report(task: Task, found: dict[str, list[Run]]) -> None:
    """Print the table, the best loss first."""
    columns = ("rate", "loss", "accuracy %", "s", "ms a step")
    made = table(
        f"{task.title}: {task.steps} steps of {task.batch}, mean ± standard deviation",
        *("optimizer", *columns, "target: steps", "target: s"),
    )
    target = 1.05 * mean(run.final for run in found.get(PEER, []))
    for method in sorted(found, key=lambda name: mean(r.final for r in found[name])):
        runs = found[method]
        steps, seconds = to_target(runs, target)
        took = mean(run.seconds[-1] for run in runs)
        made.add_row(
            title(method),
            f"{runs[0].rate:g}",
            spread([run.loss[-1] for run in runs], 4),
            spread([100 * run.accuracy[-1] for run in runs], 2),
            f"{took:.1f}",
            f"{1e3 * took / (runs[0].steps[-1] - 1):.2f}",
            steps,
            seconds,
        )
    CONSOLE.print(made)


def to_target(runs: list[Run], target: float) -> tuple[str, str]:
    points = [run.reached(target) for run in runs]
    if None in points:
        return "-", "-"  # not with every seed
    pairs = list(zip(runs, points, strict=True))
    steps, seconds = (
        [getattr(r, k)[p] for r, p in pairs] for k in ("steps", "seconds")
    )
    return f"{mean(steps):.0f}", f"{mean(seconds):.1f}"


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else math.nan


def spread(values: list[float], digits: int) -> str:
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def plot(found: dict[str, dict[str, list[Run]]], path: Path, quick: bool) -> None:
    """Mean loss against steps and against seconds; the best six by name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(
        len(found), 2, figsize=(12, 4.2 * len(found)), squeeze=False, sharey="row"
    )
    for (name, methods), row in zip(found.items(), axes, strict=True):
        whole = {m: r for m, r in methods.items() if len({len(x.loss) for x in r}) == 1}
        ranks = sorted(whole, key=lambda method: mean(r.final for r in whole[method]))
        for method in reversed(ranks):
            runs, named = whole[method], method in (*ranks[:6], PEER)
            look = {"color": "0.8", "linewidth": 0.8}
            if named:
                label = f"{title(method)}, {runs[0].rate:g}"
                look = {"label": label, "linewidth": 1.8, "zorder": 3}
            if method == PEER:
                look |= {"color": "black", "linestyle": "--"}
            loss = np.mean([run.loss for run in runs], axis=0)
            row[0].plot(runs[0].steps, loss, **look)
            row[1].plot(np.mean([r.seconds for r in runs], axis=0), loss, **look)
        row[0].set(title=TASKS[name].title, xlabel="steps", ylabel="validation loss")
        row[1].set(xlabel="seconds of training")
        row[0].set_yscale("log")
        row[0].yaxis.set_major_formatter("{x:g}")
        row[0].yaxis.set_minor_locator(ticker.LogLocator(subs=(2, 5)))
        row[0].yaxis.set_minor_formatter("{x:g}")
        lines, labels = row[1].get_legend_handles_labels()
        row[1].legend(lines[::-1], labels[::-1], fontsize="small")
    figure.suptitle("A quick run, which says nothing" if quick else "")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    print(f"Plot: {path}", file=sys.stderr)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="hardly any training")
    parser.add_argument("--task", choices=TASKS, help="one task; default: all")
    parser.add_argument("--methods", help="names with commas; default: all")
    parser.add_argument("--seeds", type=int, help="runs at the best rate; default: 3")
    parser.add_argument(
        "--results", type=Path, help="default: optimizer_training.jsonl"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()
    assert not missing(), f"Optimizers without a line in _methods.py: {missing()}"
    default = [PEER, "ScheduleFreeAdamW"] if options.quick else list(METHODS)
    methods = options.methods.split(",") if options.methods else default
    if unknown := set(methods) - set(METHODS):
        sys.exit(f"Unknown: {', '.join(unknown)}. There are: {', '.join(METHODS)}.")
    folder = Path(tempfile.mkdtemp()) if options.quick else Path()
    path = options.results or folder / "optimizer_training.jsonl"
    seeds = options.seeds or (1 if options.quick else 3)
    results, found = Results(path), {}
    CONSOLE.print(machine("tensorflow", "keras", "keras-kopt"))
    stopped = False
    for name in [options.task] if options.task else TASKS:
        task = TASKS[name].quick() if options.quick else TASKS[name]
        ready: dict[str, list[Run]] = {}
        try:
            data = task.data()
            for method in methods:
                rate = tuned(results, task, data, method, options.quick)
                key = task, data, method, rate
                ready[method] = [results.get(*key, 1 + seed) for seed in range(seeds)]
        except FileNotFoundError as error:
            print(f"Without {name}: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"Stopped; finished runs are in {path}.", file=sys.stderr)
            stopped = True
        if ready:
            report(task, ready)
            found[name] = ready
        if stopped:
            break
    if found:
        plot(found, path.with_suffix(".png"), options.quick)


if __name__ == "__main__":
    main()
