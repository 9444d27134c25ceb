"""Which variables an optimizer can train, and by which gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

#: Dtypes that are too coarse to do arithmetic in.
NARROW = ("bfloat16", "float16")


def is_floating(variable: keras.Variable) -> bool:
    """Whether the numbers of a variable can move by a part of one."""
    return tf.as_dtype(variable.dtype).is_floating


def checked_variables(variables: Iterable[keras.Variable]) -> list[keras.Variable]:
    """The variables, if none of them is complex.

    Integers pass, as counters that a layer forgot to declare not trainable: they have
    no gradient.

    Raises:
        TypeError: For a complex variable.
    """
    variables = list(variables)
    for variable in variables:
        if tf.as_dtype(variable.dtype).is_complex:
            raise TypeError(
                "Optimizers of kopt train real numbers; their state and arithmetic "
                f"have no imaginary part. Received: {variable.path!r} of dtype "
                f"{variable.dtype}. Hold its real and imaginary parts as two float "
                "variables and join them with `tf.complex` where they are used, or "
                "declare it `trainable=False`."
            )
    return variables


def check_gradients(
    gradients: Sequence[Any], variables: Sequence[keras.Variable]
) -> None:
    """Refuse gradients that their variables could follow only in part.

    Raises:
        TypeError: For a gradient of an integer or boolean variable, or a complex one.
    """
    for gradient, variable in zip(gradients, variables, strict=True):
        if gradient is None:
            continue
        if not is_floating(variable):
            raise TypeError(
                f"{variable.path!r} holds {variable.dtype} numbers, which cannot move "
                "by a learning rate times a gradient. Received a gradient for it. Make "
                "it a float variable, or pass `None` as its gradient."
            )
        dtype = tf.as_dtype(getattr(gradient, "dtype", "float32"))
        if dtype.is_complex:
            raise TypeError(
                f"The gradient of {variable.path!r}, which holds {variable.dtype} "
                f"numbers, must be real. Received dtype: {dtype.name}."
            )
