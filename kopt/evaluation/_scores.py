"""How good predictions are: pure functions of labels and outputs."""

from __future__ import annotations

import numpy as np

TASKS = ("classification", "regression")


def scores(
    labels: np.ndarray, outputs: np.ndarray, task: str | None = None
) -> dict[str, float]:
    """The scores of one output.

    Args:
        labels: Class numbers `(samples, ...)`, one-hot or multi-hot rows
            `(samples, ..., classes)`, or real targets of the outputs' shape.
        outputs: What the model returns: probabilities or logits, or real numbers.
        task: "classification", "regression", or None to tell by the labels.

    Returns:
        `accuracy` and `macro_f1`, or `mae` and `rmse`.

    Raises:
        ValueError: If labels and outputs do not fit together.
    """
    if len(labels) != len(outputs):
        raise ValueError(
            f"There are {len(labels)} labels for {len(outputs)} predictions."
        )
    labels = _shaped(labels, outputs)
    if (task or guessed_task(labels, outputs)) == "regression":
        return _errors(labels, outputs)
    if labels.shape == outputs.shape and outputs.shape[-1] > 1:
        if (labels.sum(axis=-1) == 1).all():
            return _classes(labels.argmax(-1), outputs.argmax(-1))
        return _several_labels(labels > 0.5, decided(outputs))
    if labels.shape == outputs.shape:
        return _classes(labels > 0.5, decided(outputs))
    return _classes(labels, outputs.argmax(-1))


def guessed_task(labels: np.ndarray, outputs: np.ndarray) -> str:
    """Classification for class numbers, or zeros and ones; else regression."""
    if labels.shape != outputs.shape:
        whole = np.equal(labels, np.floor(labels)).all()
        fits = whole and labels.min() >= 0 and labels.max() < outputs.shape[-1]
        if not fits:
            raise ValueError(
                f"Labels of the shape {labels.shape}, from {labels.min()} to "
                f"{labels.max()}, do not fit outputs of the shape {outputs.shape}. "
                "Give class numbers below the number of outputs, or targets of the "
                "outputs' shape."
            )
        return "classification"
    return "classification" if np.isin(labels, (0, 1)).all() else "regression"


def decided(outputs: np.ndarray) -> np.ndarray:
    """Yes or no for each value: probabilities are cut at 0.5, logits at 0."""
    probabilities = outputs.min() >= 0 and outputs.max() <= 1
    return outputs > (0.5 if probabilities else 0.0)


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The mean of the F1 scores of all classes that are there or were predicted.

    F1 of a class is 2 TP / (2 TP + FP + FN): the harmonic mean of precision and recall.
    """
    labels, predictions = labels.reshape(-1), predictions.reshape(-1)
    classes, numbers = np.unique(
        np.concatenate([labels, predictions]), return_inverse=True
    )
    true, found = numbers[: len(labels)], numbers[len(labels) :]
    count = len(classes)
    hits = np.bincount(true[true == found], minlength=count)
    both = np.bincount(true, minlength=count) + np.bincount(found, minlength=count)
    return float(np.mean(2 * hits / both))


def _shaped(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Labels without, or with, the last axis of size 1 that people add or leave out."""
    wide = outputs.shape[-1] > 1 and outputs.ndim > 1
    if wide and labels.shape == (*outputs.shape[:-1], 1):
        return labels[..., 0]
    if not wide and labels.shape == outputs.shape[:-1]:
        return labels[..., None]
    if labels.shape in (outputs.shape, outputs.shape[:-1]):
        return labels
    raise ValueError(
        f"Labels of the shape {labels.shape} do not fit outputs of the shape "
        f"{outputs.shape}."
    )


def _classes(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    labels = labels.astype("int64")
    predictions = predictions.astype("int64")
    accuracy = float(np.mean(labels == predictions))
    return {"accuracy": accuracy, "macro_f1": macro_f1(labels, predictions)}


def _several_labels(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    count = labels.shape[-1]
    labels, predictions = labels.reshape(-1, count), predictions.reshape(-1, count)
    hits = (labels & predictions).sum(axis=0)
    both = labels.sum(axis=0) + predictions.sum(axis=0)
    # A label that never occurs and is never predicted counts as 0.
    f1 = np.divide(2 * hits, both, out=np.zeros(count), where=both > 0)
    accuracy = float(np.mean(labels == predictions))
    return {"accuracy": accuracy, "macro_f1": float(f1.mean())}


def _errors(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    if labels.shape != outputs.shape:
        raise ValueError(
            f"Targets of the shape {labels.shape} do not fit outputs of the shape "
            f"{outputs.shape}."
        )
    error = outputs.astype("float64") - labels.astype("float64")
    return {
        "mae": float(np.mean(np.abs(error))),
        "rmse": float(np.sqrt(np.mean(error**2))),
    }
