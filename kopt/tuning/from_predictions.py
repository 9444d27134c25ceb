"""FromPredictions: an objective that needs all of the validation data at once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
import numpy as np

from kopt import _checks
from kopt._keras.fit_validation import fit_validation
from kopt._registry import register
from kopt.tuning._trials.errors import ObjectiveError
from kopt.tuning._trials.predictions import Predictions


@register("tuning", serializable=False)
class FromPredictions(keras_tuner.Objective):
    """An objective computed from the predictions for all of the validation data.

    For what is no mean over batches: the area under the ROC curve, the F1 score, a rank
    correlation, a cost of your own. After each epoch in which the model is validated
    the function is called once, and its value is logged like that of any metric: in the
    history, for other callbacks, for pruners. It costs one more pass over the
    validation data.

    Args:
        function: A function of targets and predictions, NumPy arrays of as many samples
            as the validation data have, that returns a number. A last axis of length 1
            is left out of both. Where the validation data have sample weights, it is
            given them as `sample_weight`, as the metrics of scikit-learn take them.
        direction: `"max"` or `"min"`: what is better.
        name: The name that is logged. Defaults to `"val_"` and the function's name.
        threshold: Predictions become 1 where they are at least this, and 0 elsewhere;
            for metrics of labels. Defaults to `None`: they are handed over as they are.
        output: Which output of the model, by name or place, where it has several.

    Raises:
        TypeError: If `function` is not callable.
        ValueError: If the direction is neither of the two, or the function has no name.

    Example:

    >>> from sklearn.metrics import roc_auc_score
    >>> auc = kopt.tuning.FromPredictions(roc_auc_score, direction="max")
    >>> auc.name
    'val_roc_auc_score'
    >>> x = np.linspace(-1, 1, 32).reshape(-1, 1)
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> model.set_weights([np.ones((1, 1)), np.zeros(1)])
    >>> y = x[:, 0] > 0
    >>> history = model.fit(
    ...     x, y, validation_data=(x, y), callbacks=[auc.callback()], verbose=0
    ... )
    >>> history.history["val_roc_auc_score"]
    [1.0]
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        direction: str,
        name: str | None = None,
        threshold: float | None = None,
        output: str | int | None = None,
    ):
        if not callable(function):
            raise TypeError(
                "`function` must be a function of targets and predictions, such as "
                f"sklearn.metrics.roc_auc_score. Received: function={function!r}."
            )
        _checks.one_of("direction", direction, ("min", "max"))
        super().__init__(name or _name_of(function), direction)
        self.function = function
        self.threshold = (
            None if threshold is None else _checks.number("threshold", threshold)
        )
        self.output = output

    def callback(self) -> keras.callbacks.Callback:
        """A callback that logs the value after each epoch.

        A search puts it before the callbacks of the user by itself.
        """
        return _Logged(self)

    def value(self, targets: Any, predictions: Any, weights: Any = None) -> float:
        """The value for the predictions of all samples; NaN if one is not finite."""
        if not np.isfinite(predictions).all():
            return float("nan")
        if self.threshold is not None:
            predictions = (predictions >= self.threshold).astype("int32")
        arguments = {}
        if weights is not None:
            self._check_weights()
            arguments["sample_weight"] = weights
        found = np.asarray(self.function(targets, predictions, **arguments))
        if found.size != 1:
            raise ObjectiveError(
                f"The function of {self.name!r} must return a number. It returned an "
                f"array of the shape {found.shape}. Average it, for scikit-learn's "
                'scores of several classes with average="macro".'
            )
        return float(found.reshape(()))

    def _check_weights(self) -> None:
        takes = inspect.signature(self.function).parameters.values()
        names = [one.name for one in takes]
        if "sample_weight" in names or any(
            one.kind is one.VAR_KEYWORD for one in takes
        ):
            return
        raise ObjectiveError(
            f"The validation data have sample weights, and the function of "
            f"{self.name!r} takes none. Give it an argument `sample_weight`, or leave "
            "the weights out of the validation data."
        )


class _Logged(keras.callbacks.Callback):
    """Adds the value of an objective to the logs of an epoch."""

    def __init__(self, objective: FromPredictions):
        super().__init__()
        self._objective = objective
        self._predictions: Predictions | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Logged:
        return _Logged(self._objective)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        validation = fit_validation(self)
        if validation is None:
            raise ObjectiveError(
                f"{self._objective.name!r} needs validation data. Give "
                "`validation_data` or `validation_split` to the search; a training of "
                "your own that does not call `model.fit` can return the score itself."
            )
        self._predictions = Predictions(self.model, validation, self._objective.output)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is None or self._predictions is None:
            return
        if not any(name.startswith("val_") for name in logs):
            return  # `validation_freq` leaves epochs out.
        name = self._objective.name
        if name in logs:
            raise ObjectiveError(
                f"{name!r} is logged already, as a metric of the model. Give the "
                'objective another name: FromPredictions(..., name="val_of_all").'
            )
        logs[name] = self._objective.value(*self._predictions.collect())


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", "<lambda>")
    if name == "<lambda>":
        raise ValueError(
            "The function has no name of its own. Give one under which its value is "
            'logged: FromPredictions(..., name="val_cost").'
        )
    return f"val_{name}"
