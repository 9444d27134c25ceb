"""The variable that a tensor stands for, in a scope that replaces variables.

Inside a `keras.StatelessScope` Keras hands a regularizer the tensor that the scope has
for a weight, in the place of the weight. It has no public way back to the weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras.src.backend.common.stateless_scope import (
    get_stateless_scope,
    in_stateless_scope,
)


class NamedValues(keras.StatelessScope):
    """A scope that replaces variables and can say which one a tensor stands for.

    Args:
        values: Pairs of a `keras.Variable` and the tensor to read in its place.
    """

    def __init__(self, values: Sequence[tuple[keras.Variable, Any]]) -> None:
        super().__init__(values, collect_losses=True, initialize_variables=False)
        self.replaced = [variable for variable, _ in values]


def variable_read_as(
    value: Any, among: Iterable[keras.Variable] = ()
) -> keras.Variable | None:
    """The variable that reads as a tensor in the scope of this moment.

    Args:
        value: The tensor.
        among: Variables to look through. Those of `NamedValues` are known.
    """
    if not in_stateless_scope():
        return None
    scope = get_stateless_scope()
    for variable in itertools.chain(among, getattr(scope, "replaced", ())):
        if scope.get_current_value(variable) is value:
            return variable
    return None
