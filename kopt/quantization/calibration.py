"""Ranges from sample data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._keras.model_state import state_kept
from kopt._registry import register
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._batches import input_batches
from kopt.quantization._branches import warn_of_starved, watched
from kopt.quantization._compiled import functions_inlined
from kopt.quantization._observers import OBSERVERS, Observer
from kopt.quantization._quantized_layer import (
    quantized_layers,
    require_quantized,
    weights_rounded_once,
)


@register("quantization")
def calibrate(model: keras.Model, data: Any, method: str = "minmax") -> keras.Model:
    """Set the ranges of a quantized model's tensors from sample data.

    The samples pass through the model in inference mode, so no statistic of a batch
    normalization moves, with weights on their grids and tensors not rounded. A few
    hundred samples of what the model will meet are plenty. Ranges that the runtime
    prescribes stay as they are; a range that no sample reaches is left as it was.

    Args:
        model: A model from `quantize_model`; it is changed in place.
        data: An array; a list or dict of arrays for several inputs; a tuple `(x, y)`
            or `(x, y, sample_weight)`; a `tf.data.Dataset`, batched or not; a
            `keras.utils.PyDataset`; a list or another iterable of batches; or a
            function that yields batches.
        method: `"minmax"`, from the smallest to the largest value seen. `"ema"`, an
            average of the batches' own ranges, which a single odd sample moves less.
            `"percentile"`, without the most extreme 0.01 % of the values on either
            side. `"mse"`, the range that changes the values least in the mean of
            squares: fewer bits need it most.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not quantized, the data are empty or of another
            shape than its inputs, or they or the values inside the model are not
            finite. The ranges are then as before.

    References:
        - Wu et al., 2020, Integer Quantization for Deep Learning Inference:
          Principles and Empirical Evaluation, arXiv:2004.09602

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> model = kopt.quantization.quantize_model(model)
    >>> data = np.linspace(-1, 3, 40, dtype="float32").reshape(10, 4)
    >>> model = kopt.quantization.calibrate(model, data)
    """
    require_quantized(model)
    _checks.one_of("method", method, list(OBSERVERS))
    # An average over batches depends on their size.
    _, batches = input_batches(model, data, 32 if method == "ema" else None)
    calibrate_on(model, batches, method)
    return model


def calibrate_on(model: keras.Model, batches: Iterable[Any], method: str) -> None:
    """`calibrate`, from batches that were checked."""
    layers = quantized_layers(model)
    observers: dict[int, tuple[ActivationRange, Observer]] = {
        id(one): (one, OBSERVERS[method](one.bits))
        for layer in layers
        for one in layer.quantizer.ranges.values()
        if one.fixed is None
    }
    with (
        _observing(observers.values()) as reached,
        watched(layers) as branches,
        state_kept(model),
        weights_rounded_once(layers),
    ):
        for batch in batches:
            with functions_inlined():
                model(batch, training=False)
    for one, observer in observers.values():
        if one in reached:
            one.set_range(*observer.settle())
    warn_of_starved(layers, branches)


@contextmanager
def _observing(
    observers: Iterable[tuple[ActivationRange, Observer]],
) -> Iterator[list[ActivationRange]]:
    reached: list[ActivationRange] = []

    def note(one: ActivationRange, observer: Observer) -> Any:
        def observe(values: Any) -> None:
            numbers = np.asarray(values)
            if not np.isfinite(numbers).all():
                raise ValueError(
                    f"{one.name!r} is NaN or infinite on the calibration data. "
                    "Look for a division by zero or an overflow before it."
                )
            observer.observe(numbers)
            reached.append(one)

        return observe

    try:
        for one, observer in observers:
            one.observer = note(one, observer)
        yield reached
    finally:
        for one, _ in observers:
            one.observer = None
