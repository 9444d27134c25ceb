from __future__ import annotations

from typing import TypeVar

import keras

from kopt import _checks
from kopt._keras.compiled import forget_compiled_functions
from kopt._registry import register
from kopt.sharpness._carrier import carried, drop

Model = TypeVar("Model", bound=keras.Model)


@register("sharpness", serializable=False)
def strip_sharpness_aware(model: Model) -> Model:
    """Let a sharpness-aware model train by plain steps again.

    What is left is a plain model of its own class, whose file loads without kopt. The
    optimizer keeps its state. A model that is plain comes back as it is.

    Args:
        model: A Keras 3 model, changed in place.

    Returns:
        `model` itself.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model = kopt.sharpness_aware(model)
    >>> type(kopt.strip_sharpness_aware(model)) is keras.Sequential
    True
    """
    _checks.keras_model("model", model, built=False)
    if carried(model) is not None:
        drop(model)
        # A training step that was compiled before makes two passes.
        forget_compiled_functions(model)
    return model
