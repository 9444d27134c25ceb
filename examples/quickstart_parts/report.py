"""The table and the picture of the quickstart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """What was measured of one stage, on the test images."""

    name: str
    accuracy: float
    f1: float
    size_kb: float
    zipped_kb: float
    sparsity: float
    latency_ms: float
    agreement: float


def print_table(rows: list[Row], title: str) -> None:
    table = Table(title=title)
    table.add_column("Stage")
    for heading in (
        "accuracy",
        "F1",
        "KB",
        "KB zipped",
        "zeros",
        "ms an image",
        "as Keras model",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.accuracy:.2%}",
            f"{row.f1:.4f}",
            f"{row.size_kb:.0f}",
            f"{row.zipped_kb:.0f}",
            f"{row.sparsity:.0%}",
            f"{row.latency_ms:.3f}",
            f"{row.agreement:.2%}",
        )
    # The width of the table, not of the terminal: it is also read from files.
    Console(width=110).print(table)


def draw(rows: list[Row], title: str, path: Path) -> None:
    """Accuracy, size and time of every stage, side by side."""
    names = [fill(row.name, 26) for row in rows]
    colors = ["#9aa5b1"] + ["#2c6fbb"] * (len(rows) - 1)
    figure, (accuracy, size, latency) = pyplot.subplots(
        1, 3, figsize=(13, 0.75 * len(rows) + 1.6), sharey=True, layout="constrained"
    )
    # Points, for an axis that does not begin at zero.
    percent = [100 * row.accuracy for row in rows]
    accuracy.scatter(percent, names, color=colors, s=90)
    for place, value in enumerate(percent):
        accuracy.annotate(f"  {value:.2f}", (value, place), va="center")
    accuracy.set_xlabel("accuracy on the test images (%)")
    accuracy.grid(axis="x", alpha=0.3)
    for axis, label, values, form in (
        (size, "TFLite file, zipped (KB)", [row.zipped_kb for row in rows], "%.0f"),
        (latency, "time for one image (ms)", [row.latency_ms for row in rows], "%.3f"),
    ):
        bars = axis.barh(names, values, color=colors)
        axis.bar_label(bars, fmt=form, padding=4)
        axis.set_xlabel(label)
    for axis in (accuracy, size, latency):
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.2)
    accuracy.invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
