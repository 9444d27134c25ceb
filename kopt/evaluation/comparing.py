"""The verb that sets two models side by side."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._registry import register
from kopt.evaluation._data import inputs_and_labels
from kopt.evaluation._scores import TASKS
from kopt.evaluation._subject import subject_of
from kopt.evaluation.measurement import Measurement, as_text
from kopt.evaluation.measuring import measured


@register("evaluation", serializable=False)
@dataclass(frozen=True)
class Comparison:
    """Two models, measured on the same data. `print(comparison)` shows a table.

    Args:
        before: The first one's measurement.
        after: The second one's.
        agreement: Share of samples for which both have the same largest output; the
            smallest share where there are several outputs, None for single values.
        max_difference: The largest difference between their outputs; None without data.
        mean_difference: The mean difference between their outputs.
    """

    before: Measurement
    after: Measurement
    agreement: float | None = None
    max_difference: float | None = None
    mean_difference: float | None = None

    def __str__(self) -> str:
        from rich.table import Table

        before = {row.label: row for row in self.before.rows()}
        after = {row.label: row for row in self.after.rows()}
        table = Table(title=f"{self.before.name} and {self.after.name}")
        for label in ("measure", self.before.kind, self.after.kind, "change"):
            table.add_column(label, justify="left" if label == "measure" else "right")
        for label in dict.fromkeys([*before, *after]):
            first, second = before.get(label), after.get(label)
            table.add_row(
                label,
                first.text if first else "-",
                second.text if second else "-",
                first.change_to(second) if first and second else "",
            )
        if self.agreement is not None:
            table.add_row("same answer", "", f"{self.agreement:.2%}", "")
        if self.max_difference is not None:
            table.add_row("largest difference", "", f"{self.max_difference:.3g}", "")
            table.add_row("mean difference", "", f"{self.mean_difference:.3g}", "")
        return as_text(table)


@register("evaluation")
def compare(
    before: keras.Model | str | os.PathLike[str],
    after: keras.Model | str | os.PathLike[str],
    data: Any = None,
    *,
    task: str | None = None,
    batch_size: int = 32,
    runs: int = 30,
) -> Comparison:
    """Measure two models or files on the same data and set them side by side.

    Args:
        before: A built Keras model, a `.keras` file or a `.tflite` file.
        after: What became of it, in any of these forms.
        data: As `kopt.evaluation.measure` takes it; inputs alone give the agreement
            and no scores.
        task: "classification", "regression", or None to tell by the labels.
        batch_size: Samples that a Keras model predicts at once.
        runs: How many predictions are timed for each latency.

    Returns:
        A `Comparison`.

    Raises:
        TypeError, ValueError: As `kopt.evaluation.measure`, and if the two have
            different outputs.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> x = np.random.default_rng(0).normal(size=(100, 8))
        >>> report = kopt.export.tflite(model, "model.tflite", "float16")
        >>> found = kopt.evaluation.compare(model, "model.tflite", x)
        >>> found.agreement, found.max_difference < 0.01
        (1.0, True)
    """
    first, second = subject_of(before), subject_of(after)
    _checks.one_of("task", task, (None, *TASKS))
    _checks.integer("batch_size", batch_size, low=1)
    _checks.integer("runs", runs, low=1)
    if data is None:
        options = (None, None, None, task, batch_size, runs)
        return Comparison(measured(first, *options), measured(second, *options))
    x, y = inputs_and_labels(data, first.specs())
    outputs = first.predict(x, batch_size), second.predict(x, batch_size)
    _check_same_outputs(*outputs)
    pairs = [(outputs[0][name], outputs[1][name]) for name in outputs[0]]
    errors = [np.abs(one.astype("float64") - other) for one, other in pairs]
    shares = [share for pair in pairs if (share := _agreement(*pair)) is not None]
    return Comparison(
        measured(first, x, y, outputs[0], task, batch_size, runs),
        measured(second, x, y, outputs[1], task, batch_size, runs),
        min(shares, default=None),
        max(float(error.max()) for error in errors),
        max(float(error.mean()) for error in errors),
    )


def _agreement(one: np.ndarray, other: np.ndarray) -> float | None:
    if one.ndim < 2 or one.shape[-1] < 2:
        return None
    return float(np.mean(one.argmax(-1) == other.argmax(-1)))


def _check_same_outputs(
    one: dict[str, np.ndarray], other: dict[str, np.ndarray]
) -> None:
    shapes = [{name: y.shape for name, y in found.items()} for found in (one, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"The two have different outputs: {shapes[0]} and {shapes[1]}. Compare "
            "models of the same task."
        )
