"""What quantization adds to one layer: grids of its weights, ranges of its tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt.quantization import ranges
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._common_grid import to_grid
from kopt.quantization._relevant_values import AddedMask, NearLargest, mask_factor
from kopt.quantization.ranges import Grid
from kopt.quantization.rule import float_class_of, rule_for

PREACTIVATION = "preactivation"
OUTPUT = "output"


def input_role(position: int) -> str:
    """The name of the range of an input, `"input_0"`."""
    return f"input_{position}"


def data_arguments(layer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a call that carry data; their order counts input positions.

    Keras adds masks and `training` to a call on its own: they are left out. Where
    they are passed by position, None holds their place.
    """
    names = _positional_names(layer)
    by_position = tuple(
        None if position < len(names) and not _is_data(names[position]) else value
        for position, value in enumerate(args)
    )
    return by_position, {key: one for key, one in kwargs.items() if _is_data(key)}


def has_mask(layer: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call of a layer got a mask, by position or by name."""
    named = dict(zip(_positional_names(layer), args, strict=False))
    return any(
        name.endswith("mask")
        and any(one is not None for one in keras.tree.flatten(value))
        for name, value in {**named, **kwargs}.items()
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f"
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_join(layer: Any) -> bool:
    """Whether a layer puts all that it takes in on one range."""
    rule = rule_for(layer)
    # What only moves values has a range of its own where it also brings a constant.
    return rule is not None and rule.role in ("join", "same")


def _is_data(name: str) -> bool:
    return name != "training" and not name.endswith("mask")


def _positional_names(layer: Any) -> tuple[str, ...]:
    """The names of the arguments of a layer's `call` that have a fixed position."""
    _, *parameters = inspect.signature(float_class_of(layer).call).parameters.values()
    return tuple(
        one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD
    )


@dataclass(frozen=True)
class WeightGrid:
    """The grid of one weight: `layer.<attribute>`, a channel on `channel_axes`.

    The attribute may be one of a part of the layer, `"query_dense.kernel"`.
    """

    attribute: str
    channel_axes: tuple[int, ...]
    bits: int = 8
    # The role of somebody else's quantizer that makes the grid.
    quantizer: str | None = None

    def __post_init__(self) -> None:
        # A config that was read from a file has lists.
        object.__setattr__(self, "channel_axes", tuple(self.channel_axes))

    def variable(self, layer: keras.Layer) -> keras.Variable:
        return attrgetter(self.attribute)(layer)

    def fake_quantized(self, layer: keras.Layer) -> Any:
        weight = keras.ops.convert_to_tensor(self.variable(layer))
        return ranges.fake_quantize_weights(weight, self.channel_axes, self.bits)

    def bounds(self, layer: keras.Layer) -> np.ndarray:
        """The ends of the grid, one a channel, or one."""
        weight = keras.ops.convert_to_tensor(self.variable(layer))
        return np.array(ranges.channel_bounds(weight, self.channel_axes))

    def marked(self, layer: keras.Layer, bounds: np.ndarray) -> Any:
        """The weight, which lies on the grid, in the one form that a converter reads.

        The ends have to be constants, the channels on the last axis.
        """
        weight = keras.ops.convert_to_tensor(self.variable(layer))
        if bounds.size == 1:
            end = float(bounds.item())
            return tf.quantization.fake_quant_with_min_max_args(
                weight, -end, end, num_bits=self.bits, narrow_range=True
            )
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            weight, -bounds, bounds, num_bits=self.bits, narrow_range=True
        )


@keras.saving.register_keras_serializable(package="kopt")
class LayerQuantizer(keras.layers.Layer):
    """The part that a quantized layer has more than a float one.

    Args:
        weight_grids: The grids of the layer's weights.
        ranges: The ranges of its tensors by their role: `"input_0"` (an input that
            no layer before has quantized), `"preactivation"`, `"output"`, or the
            name of an inner one from the layer's rule.
        rewritten: Whether the layer is computed by its rule's `compute`.
        statistics_frozen: Whether a batch normalization uses its moving statistics
            in training too.
    """

    def __init__(
        self,
        weight_grids: Sequence[WeightGrid] = (),
        ranges: Mapping[str, ActivationRange] | None = None,
        rewritten: bool = False,
        statistics_frozen: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weight_grids = tuple(weight_grids)
        self.ranges = dict(ranges or {})
        self.rewritten = rewritten
        self.statistics_frozen = statistics_frozen
        # False while the layer is to compute as the float layer that it was.
        self.active = True
        # True while the variables themselves hold grid values.
        self.snapped = False
        # Set for a time by those who look at what a join takes in: takes the inputs.
        self.branches: Callable[[Sequence[Any]], None] | None = None
        # The ends of grids of fewer than 8 bits in that time, by attribute.
        self.bounds: dict[str, Any] = {}
        # The grids of the ranges in that time, by role.
        self.grids: dict[str, Grid] = {}
        # What `weights_on_grid` returns as long as the weights stand still.
        self.rounded_weights: list[tuple[Any, Any]] | None = None

    def quantize_inputs(
        self, layer: keras.Layer, args: Any, kwargs: Any
    ) -> tuple[Any, Any]:
        """The arguments of a call, with those tensors rounded that need it here."""
        if self.branches is not None:
            self.branches(keras.tree.flatten(data_arguments(layer, args, kwargs)))
        if not self._changes_inputs(layer):
            return args, kwargs
        data = data_arguments(layer, args, kwargs)
        leaves = [
            self._input(layer, position, leaf)
            for position, leaf in enumerate(keras.tree.flatten(data))
        ]
        rounded, named = keras.tree.pack_sequence_as(data, leaves)
        args = tuple(
            given if one is None else one
            for given, one in zip(args, rounded, strict=True)
        )
        return args, {**kwargs, **named}

    def _changes_inputs(self, layer: keras.Layer) -> bool:
        of_inputs = any(role.startswith("input_") for role in self.ranges)
        masks = isinstance(self.output_limit, (AddedMask, NearLargest))
        return of_inputs or masks or self._joins_for_converter(layer)

    @property
    def output_limit(self) -> Any:
        """How far, or by which values, data may move the range of the output."""
        return self.ranges[OUTPUT].limit if OUTPUT in self.ranges else None

    def _joins_for_converter(self, layer: keras.Layer) -> bool:
        """Whether all inputs have to be put on the grid of the output.

        In training rounding behind the join comes to the same; a converter would take
        the grid of one of the inputs for all.
        """
        return self.snapped and OUTPUT in self.ranges and is_join(layer)

    def _input(self, layer: keras.Layer, position: int, leaf: Any) -> Any:
        leaf = self.rounded(input_role(position), leaf)
        if self._joins_for_converter(layer):
            return self._on_common_grid(leaf)
        return self._constant(layer, position, leaf)

    def _constant(self, layer: keras.Layer, position: int, leaf: Any) -> Any:
        """A constant that is added to scores, or makes such a term: a usable mask."""
        if not _is_number(leaf) or is_join(layer):
            return leaf
        kind, limit = float_class_of(layer).__name__, self.output_limit
        if isinstance(limit, NearLargest) and isinstance(leaf, np.ndarray):
            subtracted = kind == "Subtract" and position == 1
            return AddedMask(subtracted).relevant(leaf)
        return leaf * mask_factor(limit, leaf)

    def _on_common_grid(self, value: Any) -> Any:
        common = self.ranges[OUTPUT]
        if _is_number(value):
            return tf.clip_by_value(
                tf.constant(value, "float32"), common.low.value, common.high.value
            )
        is_float = tf.is_tensor(value) and value.dtype.is_floating
        return to_grid(common, value) if is_float else value

    def rounded(self, role: str, values: Any) -> Any:
        """Tensors rounded to the range of that role, if there is one."""
        if role not in self.ranges:
            return values
        return keras.tree.map_structure(self.ranges[role], values)

    def weights_on_grid(self, layer: keras.Layer) -> list[tuple[Any, Any]]:
        """Pairs of what the layer has for a weight and what it is to compute with."""
        if self.snapped:
            # The converter makes 8 bits of plain weights; for fewer it has to be told.
            return [
                (grid.variable(layer), grid.marked(layer, self.bounds[grid.attribute]))
                for grid in self.weight_grids
                if grid.attribute in self.bounds
            ]
        weights = [grid.variable(layer) for grid in self.weight_grids]
        known = self.rounded_weights
        # A wrapper may have put other tensors in the place of the variables.
        if known is not None and all(
            own is weight for own, (weight, _) in zip(weights, known, strict=True)
        ):
            return known
        return [
            (weight, self.on_grid(layer, grid))
            for weight, grid in zip(weights, self.weight_grids, strict=True)
        ]

    def on_grid(self, layer: keras.Layer, grid: WeightGrid) -> Any:
        """A weight's values, rounded."""
        if grid.quantizer is None:
            return grid.fake_quantized(layer)
        weight = keras.ops.convert_to_tensor(grid.variable(layer))
        return self.ranges[grid.quantizer](weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_grids": [asdict(grid) for grid in self.weight_grids],
            # Pairs, to keep the order, in which the ranges' values are saved.
            "ranges": [
                [role, keras.saving.serialize_keras_object(one)]
                for role, one in self.ranges.items()
            ],
            "rewritten": self.rewritten,
            "statistics_frozen": self.statistics_frozen,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LayerQuantizer:
        grids = [WeightGrid(**grid) for grid in config["weight_grids"]]
        ranges = {
            role: keras.saving.deserialize_keras_object(one)
            for role, one in config["ranges"]
        }
        return cls(**{**config, "weight_grids": grids, "ranges": ranges})
