"""The verb that measures a model."""

from __future__ import annotations

import gzip
import os
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._registry import register
from kopt.evaluation._data import inputs_and_labels
from kopt.evaluation._scores import TASKS, scores
from kopt.evaluation._subject import Subject, subject_of
from kopt.evaluation.measurement import Measurement


@register("evaluation")
def measure(
    model_or_file: keras.Model | str | os.PathLike[str],
    data: Any = None,
    *,
    task: str | None = None,
    batch_size: int = 32,
    runs: int = 30,
) -> Measurement:
    """Measure a model, or a file made from it: scores, size, sparsity, speed.

    The same questions are answered for a Keras model and for a TFLite file, so that
    what a step of compression costs and saves can be read off two measurements.

    Args:
        model_or_file: A built Keras model, a `.keras` file or a `.tflite` file.
        data: `(x, y)`, or a finite data set, list or generator of such batches. Labels
            are class numbers, one-hot or multi-hot rows, or real targets; several
            outputs have theirs in a list or dict. Without labels, or without data,
            there are no scores.
        task: "classification" or "regression"; None tells by the labels: class numbers,
            or nothing but zeros and ones, are classes. A single output is yes above
            0.5, or above 0 if some outputs are no probabilities.
        batch_size: Samples that a Keras model predicts at once.
        runs: How many predictions are timed for the latency, after five that are not.

    Returns:
        A `Measurement`.

    Raises:
        TypeError, ValueError: If an argument is wrong, labels do not fit the outputs,
            or a file is damaged.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2)])
        >>> x, y = np.array([[3.0, 1.0], [0.0, 2.0], [1.0, 0.0]]), np.array([0, 1, 1])
        >>> found = kopt.evaluation.measure(model, (x, y))
        >>> round(found.accuracy, 3), found.parameters, found.sparsity, found.flops
        (0.667, 6, 0.5, 8)
    """
    subject = subject_of(model_or_file)
    _checks.one_of("task", task, (None, *TASKS))
    _checks.integer("batch_size", batch_size, low=1)
    _checks.integer("runs", runs, low=1)
    x, y = None, None
    if data is not None:
        x, y = inputs_and_labels(data, subject.specs())
    return measured(subject, x, y, None, task, batch_size, runs)


def measured(
    subject: Subject,
    x: Any,
    y: Any,
    outputs: dict[str, np.ndarray] | None,
    task: str | None,
    batch_size: int,
    runs: int,
) -> Measurement:
    """A measurement on arrays, with outputs that are known already or None."""
    metrics: dict[str, float] = {}
    if y is not None:
        if outputs is None:
            outputs = subject.predict(x, batch_size)
        metrics = _scored(y, outputs, task)
        own = subject.own_metrics(x, y, batch_size)
        metrics |= {name: value for name, value in own.items() if name not in metrics}
    stored = subject.stored()
    return Measurement(
        name=subject.name,
        kind=subject.kind,
        samples=0 if y is None else len(keras.tree.flatten(x)[0]),
        metrics=metrics,
        size_bytes=len(stored),
        gzip_bytes=len(gzip.compress(stored, 6, mtime=0)),
        parameters=subject.parameters(),
        sparsity=subject.sparsity(),
        latency_ms=subject.latency(x, runs),
        latency_protocol=f"median of {runs} runs, {subject.latency_protocol}",
        flops=subject.flops(x),
    )


def _scored(
    y: Any, outputs: dict[str, np.ndarray], task: str | None
) -> dict[str, float]:
    if len(outputs) == 1:
        (labels,), (values,) = keras.tree.flatten(y), outputs.values()
        return scores(labels, values, task)
    labels = y if isinstance(y, dict) else None
    if labels is None and isinstance(y, (list, tuple)) and len(y) == len(outputs):
        labels = dict(zip(outputs, y, strict=True))
    if labels is None or set(labels) != set(outputs):
        raise ValueError(
            f"The model has the outputs {', '.join(outputs)}. Give labels for each, in "
            "a dict by these names."
        )
    return {
        f"{name}/{score}": value
        for name, values in outputs.items()
        for score, value in scores(labels[name], values, task).items()
    }
