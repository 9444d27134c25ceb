"""Predictions for all of the validation data, with their targets and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._keras.fit_validation import Validation
from kopt.tuning._trials.errors import ObjectiveError

Array = np.ndarray


class Predictions:
    """Goes through validation data, in graph mode.

    Args:
        model: The model.
        validation: The data.
        output: Name or place of the output that is looked at, of several.
    """

    def __init__(self, model: keras.Model, validation: Validation, output: Any):
        self._model = model
        self._validation = validation
        self._output = output
        self._predict: Callable[[Any], Any] = tf.function(
            lambda x: model.predict_step((x,)), reduce_retracing=True
        )

    def collect(self) -> tuple[Array, Array, Array | None]:
        """Targets, predictions and weights of all samples; no weights where none are.

        A last axis of length 1 is left out.
        """
        found: list[list[Array]] = [[], [], []]
        for x, y, weight in _batches(self._validation):
            if y is None:
                raise ObjectiveError(
                    "The validation data have no targets beside their inputs. Give "
                    "(x, y), or a data set of such pairs, as `validation_data`."
                )
            parts = (y, self._predict(x), weight)
            for kept, part in zip(found, parts, strict=True):
                if part is not None:
                    kept.append(np.asarray(self._chosen(part)))
        targets, predictions, weights = found
        if not targets:
            raise ObjectiveError(
                "The validation data are empty. Give at least a batch."
            )
        return (
            _flat(np.concatenate(targets)),
            _flat(np.concatenate(predictions)),
            _flat(np.concatenate(weights)) if weights else None,
        )

    def _chosen(self, part: Any) -> Any:
        """The part of targets or predictions that belongs to the output."""
        if not isinstance(part, (dict, list, tuple)):
            return part
        names = list(getattr(self._model, "output_names", ()))
        if isinstance(part, dict):
            names = list(part)
        if len(part) == 1 and self._output is None:
            return next(iter(part.values() if isinstance(part, dict) else part))
        if self._output is None:
            raise ObjectiveError(
                f"The model has several outputs: {_listed(part, names)}. Say which one "
                "is looked at: FromPredictions(..., output=...), with its name or its "
                "place."
            )
        place: Any = self._output
        if isinstance(part, dict):
            place = names[place] if isinstance(place, int) else place
        elif place in names:
            place = names.index(place)
        try:
            return part[place]
        except (LookupError, TypeError):
            raise ObjectiveError(
                f"There is no output {self._output!r}. There are: "
                f"{_listed(part, names)}."
            ) from None


def _batches(validation: Validation) -> Iterator[tuple[Any, Any, Any]]:
    """Inputs, targets and weights, batch by batch."""
    x, steps = validation.x, validation.steps
    if isinstance(x, keras.utils.PyDataset):
        for place in range(x.num_batches if steps is None else steps):
            yield _unpacked(x[place])
    elif isinstance(x, tf.data.Dataset) or _is_data_set(x):
        for place, batch in enumerate(x):
            if place == steps:
                return
            yield _unpacked(batch)
    else:
        arrays = (x, validation.y, validation.sample_weight)
        samples = len(keras.tree.flatten(x)[0])
        for begin in range(0, samples, validation.batch_size):
            if steps is not None and begin >= steps * validation.batch_size:
                return
            part = slice(begin, begin + validation.batch_size)
            yield keras.tree.map_structure(
                lambda one, part=part: None if one is None else one[part],
                arrays,
                none_is_leaf=True,
            )


def _is_data_set(x: Any) -> bool:
    if hasattr(x, "__next__"):
        raise ObjectiveError(
            "The validation data are a generator, which `fit` has used up. Give "
            "arrays, a tf.data.Dataset or a keras.utils.PyDataset."
        )
    is_array = hasattr(x, "shape") or isinstance(x, (dict, list, tuple))
    return hasattr(x, "__iter__") and not is_array


def _unpacked(batch: Any) -> tuple[Any, Any, Any]:
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    return x, y, weight


def _flat(values: Array) -> Array:
    return values[..., 0] if values.ndim > 1 and values.shape[-1] == 1 else values


def _listed(part: Any, names: Sequence[str]) -> str:
    return ", ".join(map(repr, names if len(names) == len(part) else range(len(part))))
