"""Weights of neighbouring layers, made equally large channel by channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kopt._registry import register
from kopt.quantization._channel_pairs import ChannelPair, Values, equal_scales
from kopt.quantization._linear_layers import (
    Chains,
    is_plain,
    linear_axes,
    path_of,
    require_float,
)
from kopt.quantization._trace import Call, trace

# All pairs in turn, until no scale moves by more than this, or so many times.
_STILL = 1e-3
_ROUNDS = 100

_LAYERS = keras.layers
_HOMOGENEOUS = (
    _LAYERS.LeakyReLU,
    _LAYERS.PReLU,
    _LAYERS.MaxPooling1D,
    _LAYERS.MaxPooling2D,
    _LAYERS.AveragePooling1D,
    _LAYERS.AveragePooling2D,
    _LAYERS.GlobalAveragePooling1D,
    _LAYERS.GlobalAveragePooling2D,
    _LAYERS.GlobalMaxPooling1D,
    _LAYERS.GlobalMaxPooling2D,
    _LAYERS.ZeroPadding1D,
    _LAYERS.ZeroPadding2D,
    _LAYERS.Cropping1D,
    _LAYERS.Cropping2D,
    _LAYERS.UpSampling1D,
    _LAYERS.UpSampling2D,
)


@dataclass(frozen=True, eq=False)
class EqualizedPair:
    """Two layers whose channels between them were equalized.

    Attributes:
        first: Path of the layer that makes the channels.
        second: Path of the layer that takes them in.
        before: Largest absolute weight of each channel in the first and in the
            second layer, with the batch normalization behind either in it.
        after: The same afterwards.
        scales: What each channel of the first layer was divided by, and of the second
            multiplied by.
    """

    first: str
    second: str
    before: tuple[np.ndarray, np.ndarray]
    after: tuple[np.ndarray, np.ndarray]
    scales: np.ndarray

    def __str__(self) -> str:
        spreads = [
            f"{_spread(before):.3g} -> {_spread(after):.3g}"
            for before, after in zip(self.before, self.after, strict=True)
        ]
        return (
            f"{self.first} | {self.second}: {len(self.scales)} channels, largest to "
            f"smallest range {spreads[0]} | {spreads[1]}"
        )


@dataclass(frozen=True)
class EqualizationReport:
    """What `equalize` did. `print(report)` shows it.

    Attributes:
        pairs: The pairs of layers that were equalized.
        skipped: By the path of a layer, why what it makes was not.
        rounds: How often all pairs were gone through.
    """

    pairs: tuple[EqualizedPair, ...]
    skipped: Mapping[str, str]
    rounds: int

    def __str__(self) -> str:
        left = [f"{layer}: left, {reason}" for layer, reason in self.skipped.items()]
        return "\n".join([*map(str, self.pairs), *left])


@register("quantization")
def equalize(model: keras.Model) -> EqualizationReport:
    """Make the channels of neighbouring layers equally large, before quantization.

    One scale for all weights of a layer, or a few bits, serve a layer badly of which
    one channel is a hundred times larger than another. Between two layers with nothing
    but a ReLU, or another function with `f(s * x) = s * f(x)` for positive `s`, a
    channel can be made smaller in the first and larger in the second, without any
    change in what the model computes (but for rounding in float32). Each channel gets
    the scale that makes its largest weight the same in both; with chains of layers
    that is repeated until nothing moves.

    Dense, convolution, depthwise and transposed convolution layers are paired, across
    a batch normalization directly behind the first, dropout, pooling, padding and
    `Flatten`. A `ReLU` with a `max_value`, a branch, or a layer called twice stands in
    the way; the report says so. Where weights have a scale for each channel, as in
    `quantize_model` and the files of `kopt.export.tflite`, there is much less to gain.

    Args:
        model: A built float Keras model; it is changed in place. Do this after
            training: an optimizer's state does not know of the scales.

    Returns:
        An `EqualizationReport`: the ranges of each pair before and after.

    Raises:
        ValueError: If the model is quantized, clustered, not built, or has NaN weights.

    References:
        - Nagel et al., 2019, Data-Free Quantization Through Weight Equalization and
          Bias Correction, arXiv:1906.04721

    Example:

    >>> layers = [keras.layers.Dense(2, activation="relu"), keras.layers.Dense(1)]
    >>> model = keras.Sequential([keras.Input((1,)), *layers])
    >>> weights = [[[8.0, 0.5]], [0.0, 0.0], [[0.5], [2.0]], [0.0]]
    >>> model.set_weights([np.array(one) for one in weights])
    >>> pair = kopt.quantization.equalize(model).pairs[0]
    >>> pair.after[0].tolist(), pair.after[1].tolist()
    ([2.0, 1.0], [2.0, 1.0])
    """
    require_float(model, "equalize")
    pairs, skipped = _find_pairs(Chains(trace(model)))
    values = Values()
    before = [pair.ranges(values) for pair in pairs]
    scales = [np.ones(pair.channels) for pair in pairs]
    rounds = 0
    for rounds in range(1, _ROUNDS + 1 if pairs else 1):  # noqa: B007 - reported
        moved = 0.0
        for place, pair in enumerate(pairs):
            scale = equal_scales(*pair.ranges(values))
            pair.rescale(values, scale)
            scales[place] = scales[place] * scale
            moved = max(moved, float(np.abs(scale - 1).max()))
        if moved < _STILL:
            break
    values.assign()
    reports = [
        EqualizedPair(
            path_of(pair.first), path_of(pair.second), old, pair.ranges(values), scale
        )
        for pair, old, scale in zip(pairs, before, scales, strict=True)
    ]
    return EqualizationReport(tuple(reports), skipped, rounds)


def _find_pairs(chains: Chains) -> tuple[list[ChannelPair], dict[str, str]]:
    pairs: list[ChannelPair] = []
    skipped: dict[str, str] = {}
    for call in chains.trace.calls:
        if linear_axes(call.layer) is None:
            continue
        found = _partner(chains, call)
        if isinstance(found, str):
            skipped[path_of(call.layer)] = found
        else:
            pairs.append(found)
    return pairs, skipped


def _partner(chains: Chains, call: Call) -> ChannelPair | str:
    """The pair that begins with a call, or why there is none."""
    layer = call.layer
    if not chains.is_used_once(layer):
        return "its weights are used more than once"
    if not (is_plain(layer.activation) or _is_relu(layer.activation)):
        return f"the activation {layer.activation.__name__!r} is not homogeneous"
    normalization = chains.normalization(call)
    flattened = False
    for follower in _followers(chains, normalization or call):
        other = follower.layer
        if linear_axes(other) is not None:
            if not chains.is_used_once(other):
                return f"the weights of {path_of(other)} are used more than once"
            behind = chains.normalization(follower)
            pair = ChannelPair(
                layer, _layer_of(normalization), other, _layer_of(behind)
            )
            return _fitting(pair, flattened)
        if isinstance(other, _LAYERS.Flatten):
            flattened = True
        elif not _is_homogeneous(other):
            return f"{path_of(other)} is not homogeneous"
    return "its output is one of the model's, or goes to more than one place"


def _fitting(pair: ChannelPair, flattened: bool) -> ChannelPair | str:
    axes = linear_axes(pair.second)
    assert axes is not None
    size = pair.second.kernel.shape[axes.incoming[0]]
    if size == pair.channels or (flattened and size % pair.channels == 0):
        return pair
    return f"{path_of(pair.second)} takes its channels in groups"


def _followers(chains: Chains, call: Call) -> Iterator[Call]:
    follower = chains.next(call)
    while follower is not None:
        yield follower
        follower = chains.next(follower)


def _is_homogeneous(layer: Any) -> bool:
    if isinstance(layer, _LAYERS.ReLU):
        return layer.max_value is None and not layer.threshold
    if isinstance(layer, _LAYERS.Activation):
        return is_plain(layer.activation) or _is_relu(layer.activation)
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return False
    return isinstance(layer, _HOMOGENEOUS)


def _is_relu(activation: Any) -> bool:
    return activation in (keras.activations.relu, keras.activations.leaky_relu)


def _layer_of(call: Call | None) -> Any:
    return None if call is None else call.layer


def _spread(ranges: np.ndarray) -> float:
    used = ranges[ranges > 0]
    return float(used.max() / used.min()) if used.size else 1.0
