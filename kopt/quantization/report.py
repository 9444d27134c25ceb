"""What is quantized in a model, to which grids, and what stays float."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
import numpy as np

from kopt._parts import Part
from kopt._registry import register
from kopt.quantization import ranges
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._batches import input_batches
from kopt.quantization._branches import Branches, starved, watched
from kopt.quantization._layer_quantizer import WeightGrid
from kopt.quantization._noise import Noise, measured
from kopt.quantization._placement import LayerPlan, plan
from kopt.quantization._quantized_layer import (
    QuantizedLayer,
    quantized_layers,
    require_quantized,
)
from kopt.quantization._trace import trace
from kopt.quantization.rule import float_class_of

_HEADING = ("layer", "class", "computed", "weights", "ranges and notes")


@dataclass(frozen=True)
class WeightReport:
    """The grid of one weight.

    Attributes:
        name: Attribute of the layer, `"kernel"`.
        bits: Bits a value.
        channels: How many channels have a scale of their own.
        sqnr: Signal to quantization noise of its values, in decibels.
    """

    name: str
    bits: int
    channels: int
    sqnr: float = math.inf

    def __str__(self) -> str:
        return f"{self.name} int{self.bits} x {self.channels}"


@dataclass(frozen=True)
class RangeReport:
    """The range of one tensor.

    Attributes:
        role: Which tensor of the layer: `"input_0"`, `"preactivation"`, `"output"`,
            or the name of an inner one.
        grid: The grid, or None if the range has not been calibrated.
        bits: Bits a value.
        fixed: Whether the runtime prescribes the range.
        saturation: Share of the values of the data that lie outside, and are cut
            off; None without data.
        sqnr: Signal to quantization noise of the data's values, in decibels; None
            without data.
        parts: Channels that the grid is too coarse for, the worst first; empty without
            data.
    """

    role: str
    grid: ranges.Grid | None
    bits: int
    fixed: bool
    saturation: float | None = None
    sqnr: float | None = None
    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        if self.grid is None and self.fixed:
            return f"{self.role} int{self.bits} by a quantizer of its own"
        if self.grid is None:
            return f"{self.role} int{self.bits} not calibrated"
        low, high = f"{self.grid.low:.4g}", f"{self.grid.high:.4g}"
        text = f"{self.role} int{self.bits} [{low}, {high}]"
        if self.sqnr is None:
            return text
        text = f"{text} {self.sqnr:.1f} dB, {self.saturation:.2%} cut off"
        faults = [part for part in self.parts if part.fault]
        if not faults:
            return text
        # The others share their range; what is small beside them is gone.
        return f"{text}; {faults[0].kind}: {faults[0]}: give it a range of its own"


@dataclass(frozen=True)
class LayerReport:
    """What becomes of one layer.

    Attributes:
        name: Path of the layer in the model.
        layer: Its class before it was quantized.
        state: `"integer"`; `"float"`; or `"passes"`, where it computes nothing and
            hands on what comes.
        weights: The grids of its weights.
        ranges: The ranges of its tensors.
        note: Why it stays float, or what becomes of it.
    """

    name: str
    layer: str
    state: Literal["integer", "passes", "float"]
    weights: tuple[WeightReport, ...]
    ranges: tuple[RangeReport, ...]
    note: str

    def __str__(self) -> str:
        details = [*map(str, self.weights), *map(str, self.ranges)]
        details += [self.note] if self.note else []
        return f"{self.name} ({self.layer}): {self.state}; {', '.join(details)}"


@dataclass(frozen=True)
class QuantizationReport:
    """What is quantized in a model. `str(report)` is a table to read.

    Attributes:
        layers: One entry a layer, in the order in which data passes them.
    """

    layers: tuple[LayerReport, ...]

    def __getitem__(self, name: str) -> LayerReport:
        """The entry of the layer of that name or path."""
        for layer in self.layers:
            if name in (layer.name, layer.name.rsplit("/", 1)[-1]):
                return layer
        raise KeyError(name)

    @property
    def integer(self) -> tuple[LayerReport, ...]:
        """The layers that are computed in integers."""
        return tuple(one for one in self.layers if one.state == "integer")

    @property
    def stays_float(self) -> tuple[LayerReport, ...]:
        """The layers that are computed in float, each with the reason in `note`."""
        return tuple(one for one in self.layers if one.state == "float")

    def __str__(self) -> str:
        rows = [_HEADING, *(row for layer in self.layers for row in _rows(layer))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            )
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)


@register("quantization")
def quantization_report(
    model: keras.Model, data: Any = None, *, training: bool = False
) -> QuantizationReport:
    """Name for each layer what is quantized, its ranges, and why it stays float.

    Args:
        model: A quantized model.
        data: Samples, in the forms that `calibrate` takes. With them the report says
            how many values of each tensor are cut off, how noisy the rounding is, and
            which channels and inputs of joins it leaves fewer than 3 bits
            (`RangeReport.parts`, `LayerReport.note`). Needed
            for a model that does not know the shape of its inputs.
        training: Whether the data pass as in a training step, with the statistics of
            their batches and dropout: what is cut off then gets no gradient. Neither
            ranges nor statistics move.

    Returns:
        A `QuantizationReport`, which prints as a table.

    Raises:
        ValueError: If the model is not quantized.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(2), keras.layers.ELU()]
    ... )
    >>> report = kopt.quantization.quantization_report(
    ...     kopt.quantization.quantize_model(model)
    ... )
    >>> report.layers[0].state, report.layers[1].state, report.layers[1].note
    ('integer', 'float', 'the runtime has no integer form of it')
    """
    require_quantized(model)
    batch = batches = None
    if data is not None:
        batch, batches = input_batches(model, data)
    calls = trace(model, batch)
    plans = plan(model, calls)
    chosen = {
        id(one.layer)
        for one in plans
        if one.changes_layer and not isinstance(one.layer, QuantizedLayer)
    }
    if chosen:
        plans = plan(model, calls, chosen)
    with watched(quantized_layers(model)) as branches:
        noise = {} if batches is None else measured(model, batches, training)
    return QuantizationReport(tuple(_describe(one, noise, branches) for one in plans))


def _describe(
    layer_plan: LayerPlan, noise: Mapping[int, Noise], branches: Branches
) -> LayerReport:
    layer, state, note = layer_plan.layer, layer_plan.state, layer_plan.note
    weights: tuple[WeightReport, ...] = ()
    tensors: tuple[RangeReport, ...] = ()
    if isinstance(layer, QuantizedLayer):
        weights = tuple(_weight(layer, grid) for grid in layer.quantizer.weight_grids)
        tensors = tuple(
            _range(role, one, noise.get(id(one)))
            for role, one in layer.quantizer.ranges.items()
        )
        state = "integer"
        note = "" if note == "chosen to stay float" else note
        kept = "its state is kept in float" if getattr(layer, "stateful", False) else ""
        note = "; ".join(filter(None, [note, kept, starved(layer, branches)]))
    return LayerReport(
        name=getattr(layer, "path", None) or layer.name,
        layer=float_class_of(layer).__name__,
        state=state,
        weights=weights,
        ranges=tensors,
        note=note,
    )


def _weight(layer: QuantizedLayer, grid: WeightGrid) -> WeightReport:
    variable = grid.variable(layer)
    channels = math.prod(variable.shape[axis] for axis in grid.channel_axes)
    rounded = np.asarray(layer.quantizer.on_grid(layer, grid))
    found = Noise()
    found.add(variable.numpy(), rounded)
    return WeightReport(grid.attribute, grid.bits, channels, found.sqnr)


def _range(role: str, one: ActivationRange, noise: Noise | None) -> RangeReport:
    grid = one.grid() if one.calibrated else None
    found = RangeReport(role, grid, one.bits, one.fixed is not None)
    if noise is None or not noise.values:
        return found
    parts = noise.parts(grid.scale) if grid else ()
    return replace(found, saturation=noise.saturation, sqnr=noise.sqnr, parts=parts)


def _rows(layer: LayerReport) -> list[tuple[str, ...]]:
    details = [*map(str, layer.ranges), *([layer.note] if layer.note else [])] or [""]
    weights = ", ".join(map(str, layer.weights))
    first = (layer.name, layer.layer, layer.state, weights, details[0])
    return [first, *(("", "", "", "", detail) for detail in details[1:])]
