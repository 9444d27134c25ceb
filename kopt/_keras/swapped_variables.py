"""Other values for a layer's variables, for the time of one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras


class SwappedVariables(keras.StatelessScope):
    """Inside this scope some variables read as other tensors.

    All else goes on as outside: a scope around this one still answers for the
    variables that it replaces, and what is assigned inside (statistics, seeds) is
    assigned on exit. `losses` has what layers added inside: whoever opens the scope
    gives it back to them, with `kopt._keras.caught_losses.add_again`.

    Args:
        swaps: Pairs of a `keras.Variable` and the tensor to read in its place.
    """

    def __init__(self, swaps: Iterable[tuple[keras.Variable, Any]]) -> None:
        # Keras drops the losses of layers in a scope that does not collect them.
        super().__init__(
            state_mapping=list(swaps), collect_losses=True, initialize_variables=False
        )
        self._updates: dict[int, tuple[keras.Variable, Any]] = {}

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        super().add_update(update)
        self._updates[id(update[0])] = update

    def get_current_value(self, variable: keras.Variable) -> Any:
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return value

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        if args and args[0] is not None:
            return
        for variable, value in self._updates.values():
            variable.assign(value)


def values_are_real() -> bool:
    """Whether variables hold their own values and tensors stand for data.

    Keras also calls layers to learn the shape of their outputs; then neither holds.
    """
    # Entering a scope is the public way to learn of the one around it.
    with keras.SymbolicScope() as symbolic:
        around = symbolic.original_scope
    with keras.StatelessScope(initialize_variables=False) as stateless:
        return around is None and stateless.original_scope is None


def assignments_last() -> bool:
    """Whether what is assigned here is in the variables later.

    In a scope without state it is not: it is handed on to the next reader, who may not
    even be able to read what was computed in a loop.
    """
    with keras.StatelessScope(initialize_variables=False) as inner:
        scope = inner.original_scope
    while isinstance(scope, SwappedVariables):
        scope = scope.original_scope
    return scope is None
