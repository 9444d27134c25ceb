"""What a layer is to the integer model: questions that a placement asks."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import keras

from kopt.quantization._activations import activation_of
from kopt.quantization._trace import Call
from kopt.quantization.rule import Rule, float_class_of, rule_for


def obstacle(call: Call, rule: Rule) -> str:
    """Why a layer cannot be quantized although its class has a rule, or nothing."""
    layer = call.layer
    if rule.obstacle and (reason := rule.obstacle(layer, len(call.inputs))):
        return reason
    if rule.role == "batch_norm" and not normalizes_channels(layer):
        return "it does not normalize the last axis"
    if rule.role == "activation" and activation_of(layer).kind == "float":
        return "the function has no integer form"
    for name in rule.weights_of(layer):
        weight = attrgetter(name)(layer)
        if not isinstance(weight, keras.Variable):
            return f"its {name} is not a plain variable"
        if not keras.backend.is_float_dtype(weight.dtype):
            return f"its {name} is {weight.dtype} already"
    return ""


def normalizes_channels(layer: keras.Layer) -> bool:
    if role(layer) != "batch_norm":
        return False
    axis = getattr(layer, "axis", -1)
    return axis == -1 or axis == layer.input_spec.ndim - 1


def is_fused_activation(layer: keras.Layer) -> bool:
    return role(layer) == "activation" and activation_of(layer).kind == "fused"


def is_linear_with_weights(layer: keras.Layer) -> bool:
    has_kernel = role(layer) == "compute" or hasattr(layer, "kernel")
    return has_kernel and activation_of(layer).kind == "none"


def stores_as_computed(layer: keras.Layer) -> bool:
    rule = rule_for(layer)
    if rule is None:
        return False
    if rule.role not in ("compute", "arithmetic", "batch_norm"):
        return is_linear_with_weights(layer)
    return rule.fuses and activation_of(layer).kind == "none"


def pads_nothing(layer: Any) -> bool:
    return getattr(layer, "padding", "valid") == "valid"


def is_sum(layer: keras.Layer) -> bool:
    return kind(layer) in ("Add", "Subtract")


def kind(layer: keras.Layer) -> str:
    return float_class_of(layer).__name__


def role(layer: keras.Layer) -> str | None:
    rule = rule_for(layer)
    return None if rule is None else rule.role
