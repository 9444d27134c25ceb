"""The verb that makes a model quantization-aware."""

from __future__ import annotations

from typing import Any

import keras

from kopt import _checks
from kopt._registry import register
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._batches import input_batches
from kopt.quantization._layer_quantizer import LayerQuantizer, WeightGrid
from kopt.quantization._placement import LayerPlan, plan
from kopt.quantization._quantized_layer import attach, forget_compiled_functions
from kopt.quantization._trace import leaf_layers, trace
from kopt.quantization.calibration import calibrate_on
from kopt.quantization.int8 import Int8
from kopt.quantization.snapping import is_quantized
from kopt.quantization.stripping import strip_quantization


@register("quantization")
def quantize_model(
    model: keras.Model, config: Int8 | None = None, calibration_data: Any = None
) -> keras.Model:
    """Make a model compute as its integer version will, so that it can train to it.

    TODO
    """
    config = Int8() if config is None else config
    _check_model(model, config)
    batch, batches = None, None
    if calibration_data is not None:
        batch, batches = input_batches(model, calibration_data)
    plans = plan(model, trace(model, batch))
    if not any(layer_plan.weights for layer_plan in plans):
        raise ValueError(_nothing_to_quantize(model, plans))
    for layer_plan in plans:
        if layer_plan.changes_layer:
            attach(layer_plan.layer, _quantizer(layer_plan, config))
    forget_compiled_functions(model)
    if batches is not None:
        try:
            calibrate_on(model, batches, "minmax")
        except BaseException:
            strip_quantization(model)
            raise
    return model


def _check_model(model: keras.Model, config: Int8) -> None:
    _checks.keras_model("model", model)
    if not isinstance(config, Int8):
        raise TypeError(
            f"`config` must be a quantization config such as Int8(). Received: "
            f"config={config!r}."
        )
    if is_quantized(model):
        raise ValueError(
            f"{model.name!r} is quantized already. Take it back with "
            "`kopt.quantization.strip_quantization(model)` first."
        )
    for layer in leaf_layers(model):
        if layer.weights and layer.compute_dtype in ("float16", "bfloat16"):
            raise ValueError(
                f"Layer {layer.name!r} computes in {layer.compute_dtype}, but "
                "fake-quantization needs float32. Build the model with the dtype "
                "policy 'float32' and copy the weights with `set_weights`."
            )
    _checks.finite_weights("model", model)


def _quantizer(layer_plan: LayerPlan, config: Int8) -> LayerQuantizer:
    name = layer_plan.layer.name

    def new_range(role: str, **arguments: Any) -> ActivationRange:
        return ActivationRange(
            bits=config.activation_bits,
            rate=1.0 - config.momentum,
            name=f"{name}_{role}",
            **arguments,
        )

    return LayerQuantizer(
        weight_grids=tuple(
            WeightGrid(attribute, axes, config.weight_bits)
            for attribute, axes in layer_plan.weights.items()
        ),
        inputs={
            position: new_range(f"input_{position}")
            for position in sorted(layer_plan.inputs)
        },
        preactivation=new_range("preactivation") if layer_plan.preactivation else None,
        output=(
            new_range("output", fixed=layer_plan.fixed_range)
            if layer_plan.output
            else None
        ),
        name=f"{name}_quantizer",
    )


def _nothing_to_quantize(model: keras.Model, plans: list[LayerPlan]) -> str:
    reasons = "; ".join(
        f"{one.layer.name}: {one.note}" for one in plans if one.stays_float
    )
    return (
        f"Nothing in {model.name!r} can be quantized: no layer with weights has a "
        f"rule. {reasons or 'It has no layer with weights.'} Rules are added with "
        "`kopt.quantization.register_quantize_rule`."
    )
