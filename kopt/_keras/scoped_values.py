"""The variable that a tensor stands for, in a scope that replaces variables.

Inside a `keras.StatelessScope` Keras hands a regularizer the tensor that the scope has
for a weight, in the place of the weight. It has no public way back to the weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras.src.backend.common.stateless_scope import (
    get_stateless_scope,
    in_stateless_scope,
)


def variable_read_as(
    value: Any, among: Iterable[keras.Variable]
) -> keras.Variable | None:
    """The one of some variables that reads as a tensor in the scope of this moment."""
    if not in_stateless_scope():
        return None
    scope = get_stateless_scope()
    for variable in among:
        if scope.get_current_value(variable) is value:
            return variable
    return None
