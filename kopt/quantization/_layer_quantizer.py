"""What quantization adds to one layer: grids of its weights, ranges of its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import keras

from kopt.quantization import ranges
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._scopes import SwappedVariables


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
        # JSON knows only lists.
        object.__setattr__(self, "channel_axes", tuple(self.channel_axes))

    def variable(self, layer: keras.Layer) -> keras.Variable:
        return getattr(layer, self.attribute)

    def fake_quantized(self, layer: keras.Layer) -> Any:
        return ranges.fake_quantize_weights(
            self.variable(layer).value, self.channel_axes, self.bits
        )


@keras.saving.register_keras_serializable(package="kopt")
class LayerQuantizer(keras.layers.Layer):
    """The part that a quantized layer has more than a float one.

    Args:
        weights: The grids of the layer's weights.
        inputs: Ranges of those inputs that no earlier layer has quantized, by the
            position of the tensor among the arguments of `call`.
        preactivation: Range of the values before the layer's `activation`.
        output: Range of the outputs.
    """

    def __init__(
        self,
        weight_grids: tuple[WeightGrid, ...] = (),
        inputs: dict[int, ActivationRange] | None = None,
        preactivation: ActivationRange | None = None,
        output: ActivationRange | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weight_grids = tuple(weight_grids)
        inputs = dict(inputs or {})
        self.input_positions = tuple(sorted(inputs))
        self.input_ranges = [inputs[position] for position in self.input_positions]
        self.preactivation_range = preactivation
        self.output_range = output
        # True while the variables themselves hold grid values.
        self.snapped = False

    def all_ranges(self) -> list[ActivationRange]:
        """Every range of the layer, in the order in which data passes them."""
        named = [*self.input_ranges, self.preactivation_range, self.output_range]
        return [one for one in named if one is not None]

    def quantize_inputs(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The arguments of a call, with those tensors rounded that need it here."""
        if not self.input_positions:
            return args, kwargs
        data = data_arguments(args, kwargs)
        leaves = keras.tree.flatten(data)
        for position, input_range in zip(
            self.input_positions, self.input_ranges, strict=True
        ):
            leaves[position] = input_range(leaves[position])
        args, named = keras.tree.pack_sequence_as(data, leaves)
        return args, {**kwargs, **named}

    @contextmanager
    def weights_on_grid(self, layer: keras.Layer) -> Iterator[None]:
        """Inside, the layer's weights read as their grid values."""
        if self.snapped or not self.weight_grids:
            yield
            return
        swaps = [
            (grid.variable(layer), grid.fake_quantized(layer))
            for grid in self.weight_grids
        ]
        with SwappedVariables(swaps):
            yield

    def quantize_preactivation(self, values: Any) -> Any:
        return self.preactivation_range(values)

    def quantize_outputs(self, outputs: Any) -> Any:
        if self.output_range is None:
            return outputs
        return keras.tree.map_structure(self.output_range, outputs)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "weight_grids": [asdict(grid) for grid in self.weight_grids],
            # JSON's keys are strings: pairs instead.
            "inputs": [
                [position, serialize(one)]
                for position, one in zip(
                    self.input_positions, self.input_ranges, strict=True
                )
            ],
            "preactivation": serialize(self.preactivation_range),
            "output": serialize(self.output_range),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LayerQuantizer:
        deserialize = keras.saving.deserialize_keras_object
        config = dict(config)
        return cls(
            weight_grids=tuple(
                WeightGrid(**grid) for grid in config.pop("weight_grids")
            ),
            inputs={
                position: deserialize(one) for position, one in config.pop("inputs")
            },
            preactivation=deserialize(config.pop("preactivation")),
            output=deserialize(config.pop("output")),
            **config,
        )
