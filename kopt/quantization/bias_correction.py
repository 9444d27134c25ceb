"""The mean error of rounded weights, taken off the biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._keras.model_state import state_kept
from kopt._registry import register
from kopt.quantization._batches import input_batches
from kopt.quantization._compiled import functions_inlined
from kopt.quantization._linear_layers import (
    Chains,
    linear_axes,
    normalization_scale,
    path_of,
    require_float,
)
from kopt.quantization._trace import trace
from kopt.quantization.ranges import fake_quantize_weights


@dataclass(frozen=True, eq=False)
class CorrectedLayer:
    """One layer whose bias was corrected.

    Attributes:
        layer: Its path.
        before: By how much the mean of each output channel, in front of the
            activation, was off with all weights rounded.
        after: The same with all biases corrected.
    """

    layer: str
    before: np.ndarray
    after: np.ndarray

    def __str__(self) -> str:
        off = [float(np.abs(error).mean()) for error in (self.before, self.after)]
        return f"{self.layer}: mean error {off[0]:.3g} -> {off[1]:.3g}"


@dataclass(frozen=True)
class BiasCorrectionReport:
    """What `correct_bias` did. `print(report)` shows it.

    Attributes:
        layers: The layers that were corrected, in the order of their calls.
        skipped: By the path of a layer with a kernel, why it was not.
    """

    layers: tuple[CorrectedLayer, ...]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        left = [f"{layer}: left, {reason}" for layer, reason in self.skipped.items()]
        return "\n".join([*map(str, self.layers), *left])


@register("quantization")
def correct_bias(
    model: keras.Model, data: Any, bits: int = 8, *, per_channel: bool = True
) -> BiasCorrectionReport:
    """Take the mean error that rounding the weights will make off the biases.

    Rounded weights do not only add noise to what a layer computes, they move its mean,
    the more so the fewer weights a channel has (depthwise convolutions) and the fewer
    bits. That part of the error is the same for every input, so a bias can undo it.
    Layer by layer, from the first to the last, the mean of each output channel is
    compared between the float model and the one with rounded weights, and the
    difference taken off the bias; a layer without one has it taken off by the batch
    normalization behind it. The weights stay as they are: round them by exporting the
    model (`kopt.export.tflite`) or by `quantize_model`, with the same settings.

    It changes little at 8 bits with a scale for each channel; see `equalize` for what
    to do first where the whole layer has one scale.

    Args:
        model: A built float Keras model; its biases (or the means of its batch
            normalizations) are changed in place.
        data: Some hundred samples as the model will meet them, in any form that
            `calibrate` takes. They pass once for every layer.
        bits: Bits of a weight, 2 to 16. Defaults to 8.
        per_channel: Whether each output channel has a scale of its own, as in the
            files of `kopt.export.tflite`, or the whole kernel one.

    Returns:
        A `BiasCorrectionReport`: the errors of each layer before and after.

    Raises:
        ValueError: If the model is quantized, clustered, not built, or has NaN
            weights, or the data are empty, not finite or of another shape.

    References:
        - Nagel et al., 2019, Data-Free Quantization Through Weight Equalization and
          Bias Correction, arXiv:1906.04721

    Example:

    >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(4)])
    >>> data = np.random.default_rng(0).uniform(size=(100, 16)).astype("float32")
    >>> report = kopt.quantization.correct_bias(model, data, bits=4)
    >>> found = report.layers[0]
    >>> bool(np.abs(found.after).max() < 0.001 * np.abs(found.before).max())
    True
    """
    require_float(model, "correct_bias")
    bits = _checks.integer("bits", bits, low=2)
    if bits > 16:
        raise ValueError(f"`bits` must be at most 16. Received: bits={bits!r}.")
    first, batches = input_batches(model, data)
    places, skipped = _find_places(Chains(trace(model, first)))
    means = _OutputMeans(model, [place.layer for place in places], list(batches))
    biases = [place.offset.numpy() for place in places if place.offset is not None]
    kernels = [place.layer.kernel.numpy() for place in places]
    done = False
    try:
        before, after = _correct(places, means, bits, per_channel)
        done = True
    finally:
        for place, kernel in zip(places, kernels, strict=True):
            place.layer.kernel.assign(kernel)
        if not done:
            targets = [place.offset for place in places if place.offset is not None]
            for variable, value in zip(targets, biases, strict=True):
                variable.assign(value)
    corrected = [
        CorrectedLayer(path_of(place.layer), before[key], after[key])
        for key, place in enumerate(places)
        if place.offset is not None and key in before
    ]
    for key, place in enumerate(places):
        if key not in before:
            skipped[path_of(place.layer)] = "it is called in a loop"
    return BiasCorrectionReport(tuple(corrected), skipped)


@dataclass(frozen=True)
class _Place:
    """A layer, and the variable that moves the mean of its output.

    `sign` is what a larger value of that variable does to the output.
    """

    layer: Any
    normalization: Any
    offset: keras.Variable | None
    sign: int

    def round_weights(self, bits: int, per_channel: bool) -> None:
        """Put the kernel on its grid, with the batch normalization in it."""
        axes = linear_axes(self.layer)
        assert axes is not None
        kernel = self.layer.kernel.numpy().astype("float32")
        factors = np.ones((), "float32")
        if self.normalization is not None:
            scale = normalization_scale(self.normalization).astype("float32")
            shape = [
                size if axis in axes.filters else 1
                for axis, size in enumerate(kernel.shape)
            ]
            factors = np.where(scale == 0, np.float32(1), scale).reshape(shape)
        along = axes.filters if per_channel else ()
        rounded = fake_quantize_weights(kernel * factors, along, bits)
        self.layer.kernel.assign(rounded / factors)


def _find_places(chains: Chains) -> tuple[list[_Place], dict[str, str]]:
    places: dict[int, _Place] = {}
    skipped: dict[str, str] = {}
    for call in chains.trace.calls:
        layer = call.layer
        if linear_axes(layer) is None or id(layer) in places:
            continue
        behind = chains.normalization(call) if chains.is_used_once(layer) else None
        normalization = None if behind is None else behind.layer
        offset, sign = None, 1
        if layer.use_bias:
            offset = layer.bias
        elif normalization is not None:
            offset, sign = normalization.moving_mean, -1
        else:
            skipped[path_of(layer)] = "it has no bias, and no batch normalization"
        places[id(layer)] = _Place(layer, normalization, offset, sign)
    return list(places.values()), skipped


def _correct(
    places: Sequence[_Place], means: _OutputMeans, bits: int, per_channel: bool
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Correct all biases; returns the errors of the means before and after."""
    wanted = means.measure()
    for place in places:
        place.round_weights(bits, per_channel)

    def errors() -> dict[int, np.ndarray]:
        found = means.measure()
        return {key: found[key] - wanted[key] for key in wanted}

    before = errors()
    for key, place in enumerate(places):
        if place.offset is None or key not in wanted:
            continue
        # With the layers before it corrected, on which its input depends.
        error = errors()[key].reshape(place.offset.shape)
        place.offset.assign(place.offset.numpy() - place.sign * error)
    return before, errors()


class _OutputMeans:
    """The means of what layers compute in front of their activation, by channel.

    Args:
        model: A model.
        layers: Layers in it.
        batches: Its inputs.
    """

    def __init__(
        self, model: keras.Model, layers: Sequence[Any], batches: Sequence[Any]
    ) -> None:
        self._model = model
        self._layers = layers
        self._batches = batches
        self._functions: dict[Any, Any] = {}

    def measure(self) -> dict[int, np.ndarray]:
        """The mean of each layer's outputs, by the place of the layer."""
        sums: dict[int, Any] = {}
        counts: dict[int, float] = {}
        with state_kept(self._model):
            found = [self._of(batch) for batch in self._batches]
        for means in found:
            for key, (total, count) in means.items():
                sums[key] = sums.get(key, 0.0) + total.numpy().astype("float64")
                counts[key] = counts.get(key, 0.0) + float(count)
        return {key: sums[key] / counts[key] for key in sums}

    def _of(self, batch: Any) -> dict[int, tuple[Any, Any]]:
        specs = keras.tree.map_structure(tf.type_spec_from_value, batch)
        key = tuple((one.shape.as_list(), one.dtype) for one in _leaves(specs))
        name = repr(key)
        if name not in self._functions:
            with functions_inlined():
                function = tf.function(self._sums, autograph=False)
                self._functions[name] = function.get_concrete_function(specs)
        found = self._functions[name](batch)
        return {int(one): values for one, values in found.items()}

    def _sums(self, batch: Any) -> dict[str, tuple[Any, Any]]:
        found: dict[str, tuple[Any, Any]] = {}
        graph = tf.compat.v1.get_default_graph()

        def note(key: int, outputs: Any) -> None:
            if tf.compat.v1.get_default_graph() is not graph:
                return
            values = tf.cast(outputs, tf.float32)
            total = tf.reduce_sum(values, axis=list(range(len(values.shape) - 1)))
            count = tf.size(values) / values.shape[-1]
            before = found.get(str(key), (0.0, 0.0))
            count = tf.cast(count, tf.float32)
            found[str(key)] = (before[0] + total, before[1] + count)

        with _observed(self._layers, note):
            self._model(batch, training=False)
        return found


def _leaves(structure: Any) -> list[Any]:
    return keras.tree.flatten(structure)


@contextmanager
def _observed(layers: Sequence[Any], note: Any) -> Iterator[None]:
    """Have layers show what they compute in front of their activation."""
    classes = [type(layer) for layer in layers]
    for key, layer in enumerate(layers):
        layer.__class__ = _observed_class(type(layer), key, note)
    try:
        yield
    finally:
        for layer, own_class in zip(layers, classes, strict=True):
            layer.__class__ = own_class


def _observed_class(layer_class: Any, key: int, note: Any) -> Any:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        activation, self.activation = self.activation, None
        try:
            outputs = layer_class.__call__(self, *args, **kwargs)
        finally:
            self.activation = activation
        note(key, outputs)
        return outputs if activation is None else activation(outputs)

    body = {"__call__": __call__}
    return type(layer_class)(layer_class.__name__, (layer_class,), body)
