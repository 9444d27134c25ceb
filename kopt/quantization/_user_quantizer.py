"""Quantizers that a user wrote, or took from TensorFlow Model Optimization.

The objects are only asked what they are, built and called; TF-MOT itself is not
imported. Those of TF-MOT's own classes that kopt has a twin of become the twin, which
is calibrated and exports exactly.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any

import keras
import tensorflow as tf

from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._layer_quantizer import OUTPUT, LayerQuantizer, WeightGrid

_WEIGHT_TWINS = ("LastValueQuantizer", "Default8BitConvWeightsQuantizer")
_RANGE_TWINS = ("MovingAverageQuantizer", "LastValueQuantizer", "AllValuesQuantizer")


@keras.saving.register_keras_serializable(package="kopt")
class UserQuantizer(keras.Layer):
    """Rounds a tensor by somebody else's quantizer.

    Args:
        quantizer: An object with `build(tensor_shape, name, layer) -> variables`,
            `__call__(inputs, training, weights)` and `get_config()`.
    """

    fixed = (0.0, 0.0)
    observer = None
    limit = None
    calibrated = False

    def __init__(self, quantizer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantizer = quantizer
        self.bits = int(getattr(quantizer, "num_bits", 8))
        self.own_variables: Any = {}

    def build(self, input_shape: Any) -> None:
        made = self.quantizer.build(tuple(input_shape), self.name, _Proxy(self))
        # A list or dict of a layer's own would be tracked; these are raw variables.
        object.__setattr__(self, "own_variables", made)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        # TF-MOT's know raw tensors only.
        values = tf.convert_to_tensor(inputs)
        return self.quantizer(values, bool(training), weights=self.own_variables)

    def set_rate(self, rate: float) -> None:
        """Nothing: such a quantizer moves as it likes."""

    def get_config(self) -> dict[str, Any]:
        kind = type(self.quantizer)
        return {
            **super().get_config(),
            "quantizer": {
                "module": kind.__module__,
                "name": kind.__qualname__,
                "config": self.quantizer.get_config(),
            },
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> UserQuantizer:
        described = config.pop("quantizer")
        # A file must not say what is to be imported.
        module = sys.modules.get(described["module"])
        if module is None:
            raise ValueError(
                f"The model was quantized with {described['name']!r} from "
                f"{described['module']!r}. Import that module before loading."
            )
        kind = attrgetter(described["name"])(module)
        return cls(kind(**described["config"]), **config)


class _Proxy:
    """The layer as a TF-MOT quantizer knows one: it makes raw TensorFlow variables."""

    def __init__(self, layer: keras.Layer) -> None:
        self._layer = layer

    def add_weight(
        self,
        name: str,
        shape: Any = (),
        initializer: Any = None,
        trainable: bool = False,
        **ignored: Any,
    ) -> Any:
        def start(shape: Any, dtype: Any = None) -> Any:
            return initializer(shape) if initializer else keras.ops.zeros(shape)

        variable = self._layer.add_weight(
            name=name,
            shape=tuple(shape or ()),
            initializer=start,
            trainable=trainable,
        )
        return variable.value


def quantizer_from(layer: Any, config: Any, rate: float) -> LayerQuantizer:
    """The quantizer of a layer as a `QuantizeConfig` describes it.

    Args:
        layer: The layer.
        config: An object with the `get_` methods of TF-MOT's `QuantizeConfig`.
        rate: Share of a new batch in moving averages.
    """
    ranges: dict[str, Any] = {}
    grids = []
    for weight, quantizer in config.get_weights_and_quantizers(layer):
        attribute = _attribute(layer, weight)
        if _is(quantizer, _WEIGHT_TWINS) and quantizer.symmetric:
            axes = (-1,) if quantizer.per_axis else ()
            grids.append(WeightGrid(attribute, axes, int(quantizer.num_bits)))
            continue
        role = f"{attribute}_quantizer"
        ranges[role] = UserQuantizer(quantizer, name=f"{layer.name}_{role}")
        ranges[role].build(weight.shape)
        grids.append(WeightGrid(attribute, (), ranges[role].bits, role))
    outputs = [
        *(one for _, one in config.get_activations_and_quantizers(layer)),
        *config.get_output_quantizers(layer),
    ]
    for quantizer in outputs[-1:]:
        found = _range(f"{layer.name}_{OUTPUT}", quantizer, rate)
        if isinstance(found, UserQuantizer):
            found.build(layer.output.shape)
        if found is not None:
            ranges[OUTPUT] = found
    return LayerQuantizer(grids, ranges, name=f"{layer.name}_quantizer")


def _range(name: str, quantizer: Any, rate: float) -> Any:
    if type(quantizer).__name__ == "NoQuantizer":
        return None
    if _is(quantizer, _RANGE_TWINS) and not quantizer.per_axis:
        return ActivationRange(bits=int(quantizer.num_bits), rate=rate, name=name)
    return UserQuantizer(quantizer, name=name)


def _is(quantizer: Any, names: tuple[str, ...]) -> bool:
    kind = type(quantizer)
    return kind.__name__ in names and kind.__module__.startswith(
        ("tensorflow_model_optimization", "kopt")
    )


def _attribute(layer: Any, weight: Any) -> str:
    for variable in layer.variables:
        if variable is weight or variable.value is weight:
            return variable.name
    raise ValueError(
        f"The quantize config of {layer.name!r} returned a weight that is not one of "
        "the layer's. Return `layer.kernel` or another variable of it."
    )
