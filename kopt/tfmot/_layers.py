"""What both directions do with a layer: read it, translate it, make it anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kopt._keras.two_versions import is_of_keras
from kopt.tfmot import _functions
from kopt.tfmot._arguments import policy_name, translated
from kopt.tfmot._layer_classes import layer_class
from kopt.tfmot._rebuilding import Rebuilder, Unsupported
from kopt.tfmot._variables import plain_name

_NAMES = {"LeakyReLU": {"negative_slope": "alpha"}}

# Layers that have their name in common and not what they do.
_OTHERWISE = {
    "RandomCrop": "at inference it crops the middle in tf_keras, and nothing in Keras 3"
}

# Arguments that are layers, and the attribute to read them from.
_LAYERS = {"layer": "layer", "cell": "cell", "backward_layer": "backward_layer"}


class _InnerProblem(Exception):
    """A layer inside the layer has no counterpart, as is known already."""


def rebuilt(layer: Any, rebuilder: Rebuilder) -> Any:
    """The counterpart of a layer; None if one inside it has none."""
    kind, older = type(layer), rebuilder.dialect.older
    target = layer_class(kind, older=older) if is_of_keras(kind) else None
    if target is None:
        raise Unsupported(_unknown(kind, rebuilder.dialect.name))
    if kind.__name__ in _OTHERWISE:
        raise Unsupported(_OTHERWISE[kind.__name__])
    config = _completed(layer, dict(layer.get_config()))
    try:
        arguments = translated(
            config,
            kind,
            target,
            _names(kind.__name__, older),
            lambda name, value: _translated(name, value, layer, rebuilder),
        )
    except _InnerProblem:
        return None
    try:
        return target(**arguments)
    except (TypeError, ValueError) as error:
        raise Unsupported(f"{rebuilder.dialect.name} refuses it: {error}") from error


def _unknown(kind: type, name: str) -> str:
    if is_of_keras(kind):
        return f"{name} has no layer {kind.__name__}"
    return f"{kind.__module__}.{kind.__name__} is not a layer of Keras's own"


def _names(name: str, older: bool) -> Mapping[str, str]:
    names = _NAMES.get(name, {})
    return names if older else {other: one for one, other in names.items()}


def _completed(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a layer as it is now, after `adapt` and `build`."""
    kind = type(layer).__name__
    if kind == "BatchNormalization" and isinstance(config["axis"], (list, tuple)):
        (config["axis"],) = config["axis"]
    if kind == "Discretization" and config.get("bin_boundaries") is not None:
        config["num_bins"] = None
    if kind in ("StringLookup", "IntegerLookup", "TextVectorization"):
        config |= _vocabulary(layer, config)
    if kind in ("StringLookup", "IntegerLookup") and config["output_mode"] == "int":
        del config["dtype"]  # integers come out, whatever the policy
    if kind == "Lambda":
        config["function"] = layer.function
        config.pop("arguments", None)
        config = {
            key: value
            for key, value in config.items()
            if key in ("name", "trainable", "dtype", "function")
        } | {"arguments": layer.arguments}
    return config


def _vocabulary(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    if type(layer).__name__ == "TextVectorization":
        if config["output_mode"] == "tf_idf":
            raise Unsupported("its mode 'tf_idf' keeps weights that cannot be read")
        words = layer.get_vocabulary(include_special_tokens=False)
        return {"vocabulary": words or None, "dtype": "string"}
    words = layer.get_vocabulary(include_special_tokens=False)
    return {"vocabulary": words or None}


def _translated(name: str, value: Any, layer: Any, rebuilder: Rebuilder) -> Any:
    dialect = rebuilder.dialect
    if name == "dtype":
        return policy_name(value)
    if name == "name":
        return plain_name(value)
    if value is None:
        return None
    if name.endswith("activation"):
        # Not from the configuration, which only knows functions that are registered.
        return dialect.activation(getattr(layer, name, value))
    if name.endswith("_regularizer"):
        return _functions.regularizer(value, dialect.origin, dialect.library)
    if name.endswith("_constraint"):
        return _functions.constraint(value, dialect.origin, dialect.library)
    if name == "cells":
        return [_inner(cell, rebuilder) for cell in layer.cells]
    if name in _LAYERS:
        bidirectional = name == "layer" and hasattr(layer, "forward_layer")
        attribute = "forward_layer" if bidirectional else _LAYERS[name]
        return _inner(getattr(layer, attribute), rebuilder)
    return _plain(name, value)


def _inner(layer: Any, rebuilder: Rebuilder) -> Any:
    made = rebuilder.counterpart(layer)
    if made is None:
        raise _InnerProblem
    return made


def _plain(name: str, value: Any) -> Any:
    if name == "seed" and isinstance(value, Mapping):
        return value["config"]["seed"]
    if isinstance(value, Mapping) and "class_name" in value:
        raise Unsupported(f"its argument {name} is a {value['class_name']}")
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return type(value)(value) if type(value) in (list, tuple) else list(value)
    return value
