"""Where a distribution of Keras lays a variable."""

from __future__ import annotations

from typing import Any

import keras


def layout(variable: keras.Variable) -> Any:
    """The layout of a variable over devices, or `None`, for variables made beside it.

    `keras.Variable` takes it as a public argument and keeps it in a private attribute.
    """
    return getattr(variable, "_layout", None)
