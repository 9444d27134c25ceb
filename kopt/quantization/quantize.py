"""The verb that makes a model quantization-aware."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register
from kopt.quantization._activation_range import ActivationRange
from kopt.quantization._batches import input_batches
from kopt.quantization._compiled import is_compiled
from kopt.quantization._layer_quantizer import (
    OUTPUT,
    PREACTIVATION,
    LayerQuantizer,
    WeightGrid,
    input_role,
)
from kopt.quantization._placement import LayerPlan, plan
from kopt.quantization._quantized_container import keep_in_config
from kopt.quantization._quantized_layer import attach
from kopt.quantization._trace import leaf_layers, trace
from kopt.quantization._user_quantizer import quantizer_from
from kopt.quantization.calibration import calibrate_on
from kopt.quantization.distilling import learn_from
from kopt.quantization.int8 import Int8
from kopt.quantization.ranges import AtMost
from kopt.quantization.snapping import is_quantized
from kopt.quantization.stripping import strip_quantization


@register("quantization")
def quantize_model(
    model: keras.Model,
    config: Int8 | None = None,
    calibration_data: Any = None,
    *,
    teacher: keras.Model | bool = False,
) -> keras.Model:
    """Make a model compute as its integer version will, so that it can train to it.

    Layers with a rule are quantized in place: from now on they round their weights,
    and the tensors between layers, to the values that 8-bit integers will have,
    while weights and gradients stay float32 (straight-through). The model is the
    same object with the same weights; compile it (again, if you want another
    learning rate), fit it, save it, prune it, load it like any Keras model, and
    export it with `kopt.export.tflite(model, path)`.

    With `calibration_data` it is as good as the float model (nearly) before the
    first training step. Without, it refuses to predict or train until `calibrate`
    or `load_weights` has given it ranges.

    Sequential, functional, nested and subclassed models work, shared layers too. A
    layer without a rule stays float and is named by `quantization_report(model)`.
    Operations outside of any layer (`x + y`) are quantized in a functional model. In
    a `call` written by hand they cannot be seen: their results get a range where a
    quantized layer takes them in, and `representative_data` fills the rest in the
    export. What a `tf.function` of your own
    inside the model was traced with before is not quantized: quantize first. To keep
    the float model as well, clone it (`keras.models.clone_model`, `set_weights`).

    Args:
        model: A built Keras model computing in float32; it is changed in place.
        config: What to quantize to. Defaults to `Int8()`.
        calibration_data: Samples as the model will meet them, a few hundred are
            plenty; see `calibrate`.
        teacher: A float model to train to, beside the loss; `True` takes a clone of
            the model as it is now. See `learn_from` for other settings.

    Returns:
        The same model.

    Raises:
        TypeError: If `model` is no Keras 3 model, or `config` no config.
        ValueError: If the model is not built, already quantized, of mixed precision
            or has weights that are NaN, if no layer of it can be quantized, or if
            the data are empty or not finite. The model is then as it was.

    References:
        - Jacob et al., 2018, Quantization and Training of Neural Networks for
          Efficient Integer-Arithmetic-Only Inference, arXiv:1712.05877

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu")])
    >>> data = np.random.default_rng(0).normal(size=(100, 4)).astype("float32")
    >>> exact = model.predict(data, verbose=0)
    >>> model = kopt.quantization.quantize_model(model, calibration_data=data)
    >>> rounded = model.predict(data, verbose=0)
    >>> step = exact.max() / 255
    >>> bool(0 < np.abs(rounded - exact).max() < 5 * step)
    True
    """
    if teacher is True:
        _checks.keras_model("model", model)
        teacher = _copy(model)
    quantize_chosen(model, config, calibration_data, None)
    return learn_from(model, teacher) if teacher else model


def _copy(model: keras.Model) -> keras.Model:
    """A model that computes the same, with weights of its own."""
    try:
        clone = keras.models.clone_model(model)
        shapes = [[tuple(w.shape) for w in one.weights] for one in (clone, model)]
        if shapes[0] != shapes[1]:
            # One that is not built yet, or has more on it than its class makes.
            return copy.deepcopy(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"`teacher=True` needs a copy of {model.name!r}, which its class does not "
            "make. Give it `get_config` and register it with Keras, or pass a float "
            f"model as `teacher`. The copy failed with: {error}"
        ) from error
    clone.set_weights(model.get_weights())
    return clone


def quantize_chosen(
    model: keras.Model,
    config: Int8 | None,
    calibration_data: Any,
    chosen: Mapping[int, Any] | None,
) -> keras.Model:
    """`quantize_model` for some layers only.

    Args:
        model: See `quantize_model`.
        config: See `quantize_model`.
        calibration_data: See `quantize_model`.
        chosen: A `QuantizeConfig`, or None for the layer's rule, by the identity of
            each layer to quantize. None quantizes all.
    """
    config = Int8() if config is None else config
    _check_model(model, config)
    batch, batches = None, None
    if calibration_data is not None:
        batch, batches = input_batches(model, calibration_data)
    own = {key: one for key, one in (chosen or {}).items() if one is not None}
    stays_float = _stays_float(model, config, chosen) | set(own)
    plans = plan(model, trace(model, batch), stays_float)
    if not own and not any(layer_plan.weights for layer_plan in plans):
        raise ValueError(_nothing_to_quantize(model, plans))
    try:
        for layer_plan in plans:
            layer = layer_plan.layer
            if id(layer) in own:
                rate = 1.0 - config.momentum
                attach(layer, quantizer_from(layer, own[id(layer)], rate))
            elif layer_plan.changes_layer:
                attach(layer, _quantizer(layer_plan, config))
        keep_in_config(model)
        forget_compiled_functions(model)
        if batches is not None:
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
    if is_compiled(model):
        raise ValueError(
            f"The `call` of {model.name!r} is a tf.function, which would not notice "
            "that its layers are quantized. Take the decorator away: `fit` and "
            "`predict` compile the model in any case."
        )
    for layer in leaf_layers(model):
        if not isinstance(layer, keras.Layer):
            continue
        if layer.weights and layer.compute_dtype in ("float16", "bfloat16", "float64"):
            raise ValueError(
                f"Layer {layer.name!r} computes in {layer.compute_dtype}, but "
                "fake-quantization needs float32. Build the model with the dtype "
                "policy 'float32' and copy the weights with `set_weights`."
            )
    _checks.finite_weights("model", model)
    _checks.no_adapters("model", model)


def _stays_float(
    model: keras.Model, config: Int8, chosen: Mapping[int, Any] | None
) -> set[int]:
    layers = leaf_layers(model)
    names = {layer.name for layer in layers}
    unknown = [name for name in config.float_layers if name not in names]
    if unknown:
        raise ValueError(
            f"`float_layers` must name layers of the model; {model.name!r} has no "
            f"{unknown[0]!r}. It has: {', '.join(sorted(names))}."
        )
    return {
        id(layer)
        for layer in layers
        if layer.name in config.float_layers
        or (chosen is not None and id(layer) not in chosen)
    }


def _quantizer(layer_plan: LayerPlan, config: Int8) -> LayerQuantizer:
    name = layer_plan.layer.name

    def new_range(role: str, **arguments: Any) -> ActivationRange:
        arguments = {"limit": layer_plan.limits.get(role), **arguments}
        return ActivationRange(
            bits=config.activation_bits,
            rate=1.0 - config.momentum,
            learned=config.learned_ranges,
            catches_up=True,
            name=f"{name}_{role}",
            **arguments,
        )

    ranges = {input_role(at): new_range(input_role(at)) for at in layer_plan.inputs}
    ranges |= {
        role: new_range(role, **{"limit" if isinstance(one, AtMost) else "fixed": one})
        for role, one in layer_plan.inner.items()
    }
    if layer_plan.preactivation:
        ranges[PREACTIVATION] = new_range(PREACTIVATION)
    if layer_plan.output:
        ranges[OUTPUT] = new_range(OUTPUT, fixed=layer_plan.fixed_range)
    grids = [
        WeightGrid(name, *config.weight_grid(layer_plan.layer, name, axes))
        for name, axes in layer_plan.weights.items()
    ]
    return LayerQuantizer(
        grids, ranges, rewritten=layer_plan.rewritten, name=f"{name}_quantizer"
    )


def _nothing_to_quantize(model: keras.Model, plans: list[LayerPlan]) -> str:
    reasons = "; ".join(
        f"{one.layer.name}: {one.note}" for one in plans if one.state == "float"
    )
    return (
        f"Nothing in {model.name!r} can be quantized: no layer with weights has a "
        f"rule ({reasons or 'it has no layer with weights'}). Rules are added with "
        "`kopt.quantization.register_quantize_rule`."
    )
