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

import kopt


@dataclass(frozen=True)
class Row:
    """A stage: its model, and the TFLite file made of it, on the test images."""

    name: str
    measured: kopt.evaluation.Comparison

    @property
    def file(self) -> kopt.evaluation.Measurement:
        return self.measured.after


def print_table(rows: list[Row], title: str) -> None:
    table = Table(title=title)
    table.add_column("Stage")
    for heading in (
        "accuracy",
        "F1",
        "KB",
        "KB gzip",
        "zeros",
        "ms an image",
        "as Keras model",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.file.accuracy:.2%}",
            f"{row.file.macro_f1:.4f}",
            f"{row.file.size_kb:.0f}",
            f"{row.file.gzip_kb:.0f}",
            f"{row.file.sparsity:.0%}",
            f"{row.file.latency_ms:.3f}",
            f"{row.measured.agreement:.2%}",
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
    percent = [100 * row.file.accuracy for row in rows]
    accuracy.scatter(percent, names, color=colors, s=90)
    for place, value in enumerate(percent):
        accuracy.annotate(f"  {value:.2f}", (value, place), va="center")
    accuracy.set_xlabel("accuracy on the test images (%)")
    accuracy.grid(axis="x", alpha=0.3)
    sizes = [row.file.gzip_kb for row in rows]
    times = [row.file.latency_ms for row in rows]
    for axis, values, form in ((size, sizes, "%.0f"), (latency, times, "%.3f")):
        axis.bar_label(axis.barh(names, values, color=colors), fmt=form, padding=4)
    size.set_xlabel("TFLite file, gzip (KB)")
    latency.set_xlabel("time for one image (ms)")
    for axis in (accuracy, size, latency):
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.2)
    accuracy.invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
