"""Layers whose call is a `tf.function`, which would not notice that they changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from kopt.quantization.rule import float_class_of


def is_compiled(layer: keras.Layer) -> bool:
    """Whether the `call` of a layer is a `tf.function`.

    It keeps what it was traced with, and would not notice that layers inside change.
    """
    return isinstance(
        float_class_of(layer).call, tf.types.experimental.PolymorphicFunction
    )


@contextmanager
def functions_inlined() -> Iterator[None]:
    """Inside, each `tf.function` in a model runs as the plain function that it wraps.

    It then neither answers with what it was traced with before, nor keeps what it
    does now.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
