"""What was measured of a model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from kopt._registry import register


@dataclass(frozen=True)
class Row:
    """A number in a table: costs compare as a ratio, scores as a difference."""

    label: str
    value: float
    form: str
    is_cost: bool = False

    @property
    def text(self) -> str:
        return format(self.value, self.form)

    def change_to(self, other: Row) -> str:
        """How the number changed, as text."""
        if not self.is_cost:
            return format(other.value - self.value, f"+{self.form}")
        return f"x {other.value / self.value:.2f}" if self.value else ""


@register("evaluation", serializable=False)
@dataclass(frozen=True)
class Measurement:
    """The numbers of one model or file. `print(measurement)` shows them as a table.

    Args:
        name: The model's name or the file's.
        kind: "keras" or "tflite".
        samples: How many samples the metrics are of; 0 without data.
        metrics: `accuracy` and `macro_f1`, or `mae` and `rmse`, and the loss and
            metrics that a Keras model was compiled with. Several outputs have their
            name before each: `"age/mae"`.
        size_bytes: A file's size; for a model in memory, that of all its weights.
        gzip_bytes: The same after gzip, as a file is sent or packed.
        parameters: How many numbers were learned. A file's batch normalization is
            folded into kernels, so that it has fewer than its model.
        sparsity: The share of zeros in kernels and embeddings.
        latency_ms: Median time of one prediction, in milliseconds.
        latency_protocol: How that was timed.
        flops: Operations of one prediction in matrix products and convolutions, a
            multiplication and an addition counting as two; None where loops or open
            sizes hide them.
    """

    name: str
    kind: str
    samples: int
    metrics: Mapping[str, float]
    size_bytes: int
    gzip_bytes: int
    parameters: int
    sparsity: float
    latency_ms: float | None = None
    latency_protocol: str = ""
    flops: int | None = None

    @property
    def size_kb(self) -> float:
        """The size in KB (1024 bytes)."""
        return self.size_bytes / 1024

    @property
    def gzip_kb(self) -> float:
        """The size after gzip in KB (1024 bytes)."""
        return self.gzip_bytes / 1024

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None for anything but a single classification."""
        return self.metrics.get("accuracy")

    @property
    def macro_f1(self) -> float | None:
        """Mean F1 over classes; None for anything but a single classification."""
        return self.metrics.get("macro_f1")

    def rows(self) -> list[Row]:
        """Every number with its label and the way to write it."""
        rows = [Row(name, value, ".4f") for name, value in self.metrics.items()]
        rows += [
            Row("size (KB)", self.size_kb, ",.1f", is_cost=True),
            Row("size, gzip (KB)", self.gzip_kb, ",.1f", is_cost=True),
            Row("parameters", self.parameters, ",", is_cost=True),
            Row("sparsity", self.sparsity, ".1%"),
        ]
        if self.latency_ms is not None:
            rows.append(Row("latency (ms)", self.latency_ms, ".3f", is_cost=True))
        if self.flops is not None:
            rows.append(Row("MFLOPs", self.flops / 1e6, ",.3f", is_cost=True))
        return rows

    def __str__(self) -> str:
        from rich.table import Table

        table = Table(title=f"{self.name} ({self.kind})", title_justify="left")
        table.add_column("measure")
        table.add_column("value", justify="right")
        for row in self.rows():
            table.add_row(row.label, row.text)
        if self.samples:
            table.caption = f"{self.samples} samples"
        return as_text(table)


def as_text(table: object) -> str:
    """A rich table as plain text, whatever the terminal is."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(table)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]
