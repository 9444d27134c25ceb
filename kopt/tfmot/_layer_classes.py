"""The classes of tf_keras, and those of Keras 3 that they are the counterparts of."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras

from kopt._keras.two_versions import application_layer
from kopt.tfmot._packages import tf_keras


def layer_class(kind: type, *, older: bool) -> type | None:
    """The class of the same name in tf_keras, or in Keras 3; None if it has none."""
    library = tf_keras() if older else keras
    name = kind.__name__
    of_applications = application_layer(kind, older=older)
    if of_applications is not None:
        return of_applications
    if older and name == "SpectralNormalization":
        return _spectral_normalization()
    return getattr(library.layers, name, None)


@cache
def _spectral_normalization() -> type:
    """The layer of tf_keras, which else cannot be built beside Keras 3.

    It takes the class for its input specification from `tf.compat.v2.keras`, which is
    Keras 3 unless TF-MOT was loaded first.
    """
    library = tf_keras()

    @library.saving.register_keras_serializable("kopt")
    class SpectralNormalization(library.layers.SpectralNormalization):  # type: ignore
        @property
        def input_spec(self) -> Any:
            return super().input_spec

        @input_spec.setter
        def input_spec(self, spec: Any) -> None:
            if isinstance(spec, keras.InputSpec):
                spec = library.layers.InputSpec(shape=spec.shape)
            library.layers.Layer.input_spec.fset(self, spec)

    SpectralNormalization.__module__ = library.layers.SpectralNormalization.__module__
    return SpectralNormalization


def symbol_of(layer: Any) -> str | None:
    """The TensorFlow function that a layer of tf_keras stands for, if it does."""
    return getattr(layer, "symbol", None)


def is_symbolic(part: Any) -> bool:
    """Whether something is a symbolic tensor of tf_keras."""
    return isinstance(part, tf_keras().__internal__.KerasTensor)


def is_operation(layer: Any) -> bool:
    """Whether a layer of tf_keras stands for a function and not for itself."""
    return symbol_of(layer) is not None or hasattr(layer, "keras_operation")
