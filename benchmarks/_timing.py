"""Interleaved timing and the tables that the benchmarks print."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import time
from collections.abc import Callable, Mapping
from statistics import median

from rich.console import Console
from rich.table import Table

CONSOLE = Console(width=120)


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 3,
    sample: float = 0.01,
) -> dict[str, float]:
    """Median seconds of a call of each function, all of them timed in every round.

    The machine's speed drifts; what is timed side by side drifts together. A quick
    function is called several times in a row, for `sample` seconds at least.
    """
    calls: dict[str, int] = {}
    for name, function in functions.items():
        for _ in range(warm_up):
            function()
        calls[name] = max(1, round(sample / seconds_a_call(function, 1)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    order, generator = list(functions), random.Random(0)
    for _ in range(rounds):
        # Threads of one library spin on for a moment: everybody comes after everybody.
        generator.shuffle(order)
        for name in order:
            times[name].append(seconds_a_call(functions[name], calls[name]))
    return {name: median(values) for name, values in times.items()}


def seconds_a_call(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def machine(*packages: str) -> str:
    """The processor and the versions of some packages, in a line."""
    versions = [f"{name} {version(name)}" for name in packages]
    return f"{processor()}, {os.cpu_count()} cores; {', '.join(versions)}"


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123 - not a file of ours
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place == 0 else "right")
    return made
