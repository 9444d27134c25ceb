"""What quantization adds to one layer: grids of its weights, ranges of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras

from kopt.quantization import ranges
from kopt.quantization._activation_range import ActivationRange

PREACTIVATION = "preactivation"
OUTPUT = "output"


def input_role(position: int) -> str:
    """The name of the range of an input, `"input_0"`."""
    return f"input_{position}"


def data_arguments(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a call that carry data; their order counts input positions.

    Keras adds masks and `training` to a call on its own: they are left out.
    """
    named = {
        name: value
        for name, value in kwargs.items()
        if name != "training" and not name.endswith("mask")
    }
    return args, named


@dataclass(frozen=True)
class WeightGrid:
    """The grid of one weight: `layer.<attribute>`, a channel on `channel_axes`."""

    attribute: str
    channel_axes: tuple[int, ...]
    bits: int = 8

    def __post_init__(self) -> None:
        # A config that was read from a file has lists.
        object.__setattr__(self, "channel_axes", tuple(self.channel_axes))

    def variable(self, layer: keras.Layer) -> keras.Variable:
        return getattr(layer, self.attribute)

    def fake_quantized(self, layer: keras.Layer) -> Any:
        weight = keras.ops.convert_to_tensor(getattr(layer, self.attribute))
        return ranges.fake_quantize_weights(weight, self.channel_axes, self.bits)


@keras.saving.register_keras_serializable(package="kopt")
class LayerQuantizer(keras.layers.Layer):
    """The part that a quantized layer has more than a float one.

    Args:
        weight_grids: The grids of the layer's weights.
        ranges: The ranges of its tensors by their role: `"input_0"` (an input that
            no layer before has quantized), `"preactivation"`, `"output"`, or the
            name of an inner one from the layer's rule.
        rewritten: Whether the layer is computed by its rule's `compute`.
    """

    def __init__(
        self,
        weight_grids: Sequence[WeightGrid] = (),
        ranges: Mapping[str, ActivationRange] | None = None,
        rewritten: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weight_grids = tuple(weight_grids)
        self.ranges = dict(ranges or {})
        self.rewritten = rewritten
        # True while the variables themselves hold grid values.
        self.snapped = False

    def quantize_inputs(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The arguments of a call, with those tensors rounded that need it here."""
        if not any(role.startswith("input_") for role in self.ranges):
            return args, kwargs
        data = data_arguments(args, kwargs)
        leaves = [
            self.rounded(input_role(position), leaf)
            for position, leaf in enumerate(keras.tree.flatten(data))
        ]
        args, named = keras.tree.pack_sequence_as(data, leaves)
        return args, {**kwargs, **named}

    def rounded(self, role: str, values: Any) -> Any:
        """Tensors rounded to the range of that role, if there is one."""
        if role not in self.ranges:
            return values
        return keras.tree.map_structure(self.ranges[role], values)

    def weights_on_grid(self, layer: keras.Layer) -> list[tuple[Any, Any]]:
        """Pairs of what the layer has for a weight and what it is to compute with."""
        if self.snapped:
            return []
        return [
            (getattr(layer, grid.attribute), grid.fake_quantized(layer))
            for grid in self.weight_grids
        ]

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
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LayerQuantizer:
        grids = [WeightGrid(**grid) for grid in config["weight_grids"]]
        ranges = {
            role: keras.saving.deserialize_keras_object(one)
            for role, one in config["ranges"]
        }
        return cls(**{**config, "weight_grids": grids, "ranges": ranges})
