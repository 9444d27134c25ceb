"""What each layer alone costs when it is quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kopt._charts import bars
from kopt._keras.model_state import state_kept
from kopt._part_sums import PartSums
from kopt._parts import Limits, Part, judged
from kopt._registry import register
from kopt.quantization._batches import batches_with_targets
from kopt.quantization._compiled import functions_inlined
from kopt.quantization._layer_quantizer import OUTPUT
from kopt.quantization._quantized_layer import require_quantized
from kopt.quantization._trace import Call, Trace, trace
from kopt.quantization.rule import rule_for

# The mean error of a part of the output that a single layer may cause, as a part of its
# mean size.
_MEAN_ERROR = 0.25
# Decibels by which the noise falls, if most of it comes from rounding the result.
_MUCH_LESS = 3.0


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer alone costs.

    Attributes:
        name: The layer.
        loss: Score of the float model less the score with this layer quantized.
        sqnr: Signal to quantization noise of the model's output, in decibels.
        parts: Places and channels of the output that suffer, the worst first.
        together: Layers that have to stay float with it for it to help, as they round
            the same tensor: those around a join, and those that take in what suffers
            when it is rounded.
    """

    name: str
    loss: float
    sqnr: float
    parts: tuple[Part, ...] = ()
    together: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.loss:+.4f}  {self.sqnr:5.1f} dB"
        faults = [part for part in self.parts if part.fault]
        return f"{text}  {faults[0].kind}: {faults[0]}" if faults else text


@register("quantization", serializable=False)
@dataclass(frozen=True)
class SensitivityReport:
    """What each layer alone costs, the most costly first. `print(report)` shows it.

    Attributes:
        layers: One entry a layer.
        float_score: The score with no layer quantized.
        quantized_score: The score with all of them quantized.
    """

    layers: tuple[LayerSensitivity, ...]
    float_score: float
    quantized_score: float

    def suggestion(self, most: float = 0.0) -> tuple[str, ...]:
        """Names of layers to keep in float, or in 8 bits where the rest has 4.

        The fewest, the most costly first, whose absence brings the sum of what the
        rest costs down to `most`, with the layers that would round the same tensors
        in their place: around a join (a `Concatenate`), and behind a layer whose
        result suffers. For `Int8(float_layers=...)`,
        `Int4Weights(int8_layers=...)`, or for the export of the float model,
        `kopt.export.tflite(model, path, "int8", data, float_layers=...)`.

        Args:
            most: Score that may be lost, in the units of the score.
        """
        left = sum(max(one.loss, 0.0) for one in self.layers)
        chosen: list[str] = []
        for one in self.layers:
            if left <= most + 1e-9 or one.loss <= 0.0:
                break
            chosen += [one.name, *one.together]
            left -= one.loss
        return tuple(dict.fromkeys(chosen))

    def plot(self, ax: Any = None) -> Any:
        """Draw what each layer costs.

        Args:
            ax: The matplotlib `Axes` to draw into. By default those of a new figure.

        Returns:
            The `Axes`, to save (`ax.figure.savefig(path)`) or to draw more into.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        names = [one.name for one in self.layers]
        ax = bars(ax, names, [one.loss for one in self.layers])
        ax.set_xlabel("score lost when this layer alone is quantized")
        return ax

    def __str__(self) -> str:
        width = max(len(one.name) for one in self.layers)
        rows = [f"{one.name:<{width}}  {one}" for one in self.layers]
        scores = f"float {self.float_score:.4f}, quantized {self.quantized_score:.4f}"
        return "\n".join([scores, *rows])


@register("quantization")
def sensitivity(
    model: keras.Model,
    data: Any,
    score: Callable[[Any, np.ndarray], float] | None = None,
) -> SensitivityReport:
    """Measure what each quantized layer costs if it alone is quantized.

    To export without training, with the layers in float that 8 bits do not suit:
    clone the model, quantize the clone with calibration data, measure it here, and
    pass `report.suggestion(most)` on as `float_layers` to `kopt.export.tflite`,
    together with the float model and representative data.

    Args:
        model: A calibrated model from `quantize_model` with one output. It is left as
            it is.
        data: `(x, y)`, or inputs alone, in any form that `calibrate` takes. A few
            hundred samples are plenty: each layer takes one pass.
        score: `score(y, outputs)`, larger for a better model. Defaults to the
            accuracy where `y` are labels; to the agreement with the float model's
            choice where there is no `y`; else to the mean squared error, negative.

    Returns:
        A `SensitivityReport`.

    Raises:
        ValueError: If the model is not quantized, or the data are empty.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> model = kopt.quantization.quantize_model(model, calibration_data=x)
    >>> report = kopt.quantization.sensitivity(model, x)
    >>> report.layers[0].name, report.layers[0].loss < 0.1, report.layers[0].sqnr > 30
    ('d', True, True)
    """
    layers = require_quantized(model)
    _, stream = batches_with_targets(model, data)
    pairs = list(stream)
    batches = [pair.x for pair in pairs]
    with _active(layers, []):
        exact = _outputs(model, batches)
    known = all(pair.y is not None for pair in pairs)
    y = np.concatenate([np.asarray(pair.y) for pair in pairs]) if known else None
    rate = _score(score, y, exact, _ends_in_sigmoid(model))
    calls = trace(model, batches[0])
    around = _around_joins(calls)
    found = []
    for layer in layers:
        with _active(layers, [layer]):
            outputs = _outputs(model, batches)
        lost = rate(exact) - rate(outputs)
        noise, parts = decibels(exact, outputs), _parts(exact, outputs)
        near = around.get(id(layer), ())
        if lost > 0.0 or any(part.fault for part in parts):
            with _active(layers, [layer]), _result_kept(layer):
                without = decibels(exact, _outputs(model, batches))
            if without > noise + _MUCH_LESS:
                near = tuple(dict.fromkeys([*near, *_beside(calls, layer)]))
        found.append(LayerSensitivity(layer.name, lost, noise, parts, near))
    found.sort(key=lambda one: (-one.loss, one.sqnr))
    everything = _outputs(model, batches)
    return SensitivityReport(tuple(found), rate(exact), rate(everything))


def decibels(exact: np.ndarray, rounded: np.ndarray) -> float:
    """Signal to noise; infinite where there is no noise."""
    exact, rounded = exact.astype("float64"), rounded.astype("float64")
    noise = float(np.sum((rounded - exact) ** 2))
    signal = float(np.sum(exact**2))
    return 10.0 * float(np.log10(signal / noise)) if noise and signal else np.inf


def _parts(exact: np.ndarray, outputs: np.ndarray) -> tuple[Part, ...]:
    sums = PartSums()
    sums.add(exact, outputs)
    return judged(sums, Limits(error=_MEAN_ERROR))


@contextmanager
def _active(layers: list[Any], chosen: list[Any]) -> Iterator[None]:
    """Inside, all layers but some compute in float."""
    for layer in layers:
        layer.quantizer.active = any(layer is one for one in chosen)
    try:
        yield
    finally:
        for layer in layers:
            layer.quantizer.active = True


@contextmanager
def _result_kept(layer: Any) -> Iterator[None]:
    """Inside, a quantized layer does not round its result."""
    ends = [layer.quantizer.ranges[OUTPUT]] if OUTPUT in layer.quantizer.ranges else []
    for end in ends:
        end.observer = lambda values: None
    try:
        yield
    finally:
        for end in ends:
            end.observer = None


def _outputs(model: keras.Model, batches: list[Any]) -> np.ndarray:
    with state_kept(model), functions_inlined():
        return np.concatenate(
            [np.asarray(model(batch, training=False)) for batch in batches]
        )


def _around_joins(calls: Trace) -> dict[int, tuple[str, ...]]:
    """The layers around each layer that joins tensors, by its identity.

    Whoever takes in what was joined rounds it to one range, too, and those before
    would be rounded to the ranges that differ so much.
    """
    around: dict[int, tuple[str, ...]] = {}
    for join in calls.calls:
        rule = rule_for(join.layer)
        if rule is None or rule.role != "join":
            continue
        near = [*_makers(calls, join), *_takers(calls, join)]
        names = dict.fromkeys(layer.name for layer in near)
        around[id(join.layer)] = tuple(names)
    return around


def _beside(calls: Trace, layer: Any) -> list[str]:
    """The layers that would round what a layer computes, if it did not itself.

    Those that take it in, and for an activation the one that it belongs to.
    """
    found = []
    for call in calls.calls:
        if call.layer is layer:
            found += [] if layer.weights else _makers(calls, call)
            found += _takers(calls, call)
    return [one.name for one in found]


def _makers(calls: Trace, call: Call) -> list[Any]:
    """The layers whose results a call takes in, past those that only move them."""
    wanted = {tensor for _, tensor in call.inputs}
    found = [one for one in calls.calls if wanted.intersection(one.outputs)]
    return [
        layer
        for one in found
        for layer in (_makers(calls, one) if _moves(one) else [one.layer])
    ]


def _takers(calls: Trace, call: Call) -> list[Any]:
    """The layers that take in what a call returns, past those that only move it."""
    outputs = set(call.outputs)
    found = [
        one
        for one in calls.calls
        if outputs.intersection(tensor for _, tensor in one.inputs)
    ]
    return [
        layer
        for one in found
        for layer in (_takers(calls, one) if _moves(one) else [one.layer])
    ]


def _moves(call: Call) -> bool:
    rule = rule_for(call.layer)
    return rule is not None and rule.role == "same"


def _ends_in_sigmoid(model: keras.Model) -> bool:
    last = model.layers[-1] if model.layers else None
    activation = getattr(last, "activation", None)
    return activation is keras.activations.sigmoid


def _score(
    score: Callable[[Any, np.ndarray], float] | None,
    y: np.ndarray | None,
    exact: np.ndarray,
    probabilities: bool,
) -> Callable[[np.ndarray], float]:
    if score is not None:
        return lambda outputs: float(score(y, outputs))
    several = exact.ndim > 1 and exact.shape[-1] > 1
    if several and (y is None or y.ndim == exact.ndim - 1):
        labels = exact.argmax(-1) if y is None else y
        return lambda outputs: float(np.mean(outputs.argmax(-1) == labels))
    binary = probabilities if y is None else set(np.unique(y)) <= {0, 1}
    if binary and not several:
        limit = 0.5 if probabilities else 0.0
        truth = exact > limit if y is None else y.reshape(exact.shape) > 0
        return lambda outputs: float(np.mean((outputs > limit) == truth))
    target = exact if y is None else y.reshape(exact.shape)
    return lambda outputs: -float(np.mean((outputs - target) ** 2))
