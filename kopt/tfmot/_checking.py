"""Checks of models of either Keras. Unlike elsewhere, one without weights will do."""

from __future__ import annotations

from typing import Any

import keras

from kopt import _checks
from kopt._keras.two_versions import is_older
from kopt.quantization import is_quantized
from kopt.tfmot._packages import tf_keras


def keras_model(name: str, model: Any) -> Any:
    """A built model of Keras 3, without fake quantization."""
    _built(name, _checks.keras_model(name, model, built=False))
    if is_quantized(model):
        raise ValueError(
            f"`{name}` must not be quantization-aware: tf_keras does not know kopt's "
            f"layers. Received: {name}={model.name!r}. Call "
            "`kopt.quantization.strip_quantization(model)` first."
        )
    return model


def tf_keras_model(name: str, model: Any) -> Any:
    """A built model of tf_keras."""
    if not isinstance(model, tf_keras().Model):
        hint = "Pass a tf_keras.Model."
        if isinstance(model, keras.Model):
            hint = "This is a model of Keras 3 already."
        raise TypeError(
            f"`{name}` must be a model of tf_keras. Received: {name}={type(model)!r}. "
            f"{hint}"
        )
    return _built(name, model)


def any_model(name: str, model: Any) -> Any:
    """A built model of either Keras."""
    if is_older(model):
        return tf_keras_model(name, model)
    return _built(name, _checks.keras_model(name, model, built=False))


def _built(name: str, model: Any) -> Any:
    if not model.built:
        raise ValueError(
            f"`{name}` must be a built model. Received: {name}={model.name!r}, which "
            "has no weights yet. Give it an `Input`, or call "
            "`model.build(input_shape)`."
        )
    return model
