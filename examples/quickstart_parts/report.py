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
    panels = (
        ("accuracy on the test images (%)", [100 * row.accuracy for row in rows], 2),
        ("TFLite file, zipped (KB)", [row.zipped_kb for row in rows], 0),
        ("time for one image (ms)", [row.latency_ms for row in rows], 3),
    )
    names = [fill(row.name, 26) for row in rows]
    figure, axes = pyplot.subplots(
        1, 3, figsize=(13, 0.75 * len(rows) + 1.6), sharey=True, layout="constrained"
    )
    for axis, (label, values, digits) in zip(axes, panels, strict=True):
        bars = axis.barh(names, values, color=["#9aa5b1"] + ["#2c6fbb"] * len(rows))
        axis.bar_label(bars, fmt=f"%.{digits}f", padding=4)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.18)
    # Differences of a percent do not show on an axis that begins at zero.
    lowest = min(panels[0][1])
    axes[0].set_xlim(left=max(0, lowest - 0.5 * (100 - lowest)))
    axes[0].invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
