"""Layers computed by the operation that the runtime has for them, equal in value.

Keras writes some layers in a way that suits XLA or indices of either sign: repeating
rows and columns instead of a resize, a selection around a look-up. A converter makes
several operations of that, which delegates and small runtimes do not have.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kopt._keras.layer_tree import with_nested_layers
from kopt._rescaling import rescaled
from kopt.quantization._common_grid import off_grid


@contextlib.contextmanager
def runtime_forms(model: keras.Model) -> Iterator[None]:
    """Within the block, the layers of a model compute in the runtime's own forms."""
    changed = []
    for layer in with_nested_layers(model):
        form = _form_of(layer)
        if form is not None and "call" not in vars(layer):
            # Past Keras's bookkeeping of attributes: this is no part of the layer.
            vars(layer)["call"] = functools.wraps(layer.call)(
                functools.partial(form, layer)
            )
            changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            del vars(layer)["call"]


def _form_of(layer: keras.Layer) -> Callable[..., Any] | None:
    for kind, form in _FORMS.items():
        # A subclass, a quantized layer among them, that computes something else does
        # so for a reason.
        if isinstance(layer, kind) and type(layer).call is kind.call:
            return form
    return None


def _upsampling(layer: Any, inputs: Any) -> Any:
    if layer.interpolation != "nearest":
        return type(layer).call(layer, inputs)
    first = layer.data_format == "channels_first"
    images = ops.transpose(inputs, (0, 2, 3, 1)) if first else inputs
    resized = _resized(images, layer.size)
    return ops.transpose(resized, (0, 3, 1, 2)) if first else resized


def _upsampling_of_sequences(layer: Any, inputs: Any) -> Any:
    images = ops.expand_dims(inputs, 1)
    return ops.squeeze(_resized(images, (1, layer.size)), 1)


def _resized(images: Any, factors: tuple[int, int]) -> Any:
    height, width = images.shape[1] * factors[0], images.shape[2] * factors[1]
    return tf.image.resize(
        images, (height, width), tf.image.ResizeMethod.NEAREST_NEIGHBOR
    )


def _embedding(layer: Any, inputs: Any) -> Any:
    # Indices in a file are those of rows: none is counted from the end.
    rows = tf.gather(layer.embeddings, ops.cast(inputs, "int32"))
    return ops.cast(rows, layer.compute_dtype)


def _normalization(layer: Any, inputs: Any) -> Any:
    numbers = rescaled(layer)
    if numbers is None:
        return type(layer).call(layer, inputs)
    # With one number each the converter moves them into the weights of what follows.
    inputs = ops.cast(inputs, layer.compute_dtype)
    return inputs * numbers.scale + numbers.offset


def _averaging(layer: Any, inputs: Any, **options: Any) -> Any:
    # It computes in float, or it would be a quantized layer.
    return type(layer).call(layer, off_grid(inputs), **options)


_FORMS: dict[Any, Callable[..., Any]] = {
    keras.layers.UpSampling2D: _upsampling,
    keras.layers.UpSampling1D: _upsampling_of_sequences,
    keras.layers.Embedding: _embedding,
    keras.layers.Normalization: _normalization,
    **dict.fromkeys(
        (
            keras.layers.LayerNormalization,
            keras.layers.GroupNormalization,
            keras.layers.AveragePooling1D,
            keras.layers.AveragePooling2D,
            keras.layers.AveragePooling3D,
            keras.layers.GlobalAveragePooling1D,
            keras.layers.GlobalAveragePooling2D,
            keras.layers.GlobalAveragePooling3D,
        ),
        _averaging,
    ),
}
