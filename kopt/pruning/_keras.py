"""The private names of Keras that pruning needs, all in one place.

Keras has no public way to list the layers inside layers, to know which optimizer is
calling a constraint, to reach the moving average of a variable, or to save state that
is not a layer's. Each name has a canary in `tests/pruning/test_keras.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras.src.backend.common import global_state
from keras.src.saving.keras_saveable import KerasSaveable as KerasSaveable


class Update(NamedTuple):
    """One call of an optimizer's `apply`.

    Args:
        call: An object that stands for the call. Wrapped optimizers share the one of
            the outermost.
        optimizer: The innermost optimizer, the one that moves the variables.
    """

    call: Any
    optimizer: keras.optimizers.Optimizer


def running_update() -> Update | None:
    """The optimizer call that we are inside of, if any."""
    # `apply` opens a name scope with itself as the caller.
    scopes = global_state.get_global_attribute("name_scope_stack") or []
    calls = [s for s in scopes if isinstance(s.caller, keras.optimizers.Optimizer)]
    return Update(calls[0], calls[-1].caller) if calls else None


def moves_variables(optimizer: keras.optimizers.Optimizer) -> Any:
    """Whether this call updates variables: not so while gradients are gathered.

    Returns:
        `True`, or a boolean tensor where the optimizer accumulates gradients.
    """
    steps = optimizer.gradient_accumulation_steps
    if not steps:
        return True
    # `iterations` counts updates; only the private counter knows the batches between.
    return keras.ops.equal((optimizer._iterations + 1) % steps, 0)


def moving_average(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> keras.Variable | None:
    """The average that `use_ema` keeps of a variable, if it does."""
    if not optimizer.use_ema:
        return None
    index = optimizer._get_variable_index(variable)
    return optimizer._model_variables_moving_average[index]


def nested_layers(model: keras.Model) -> list[keras.Layer]:
    """Every layer of a model at any depth, outer ones before what they hold."""
    layers: list[keras.Layer] = model._flatten_layers(include_self=False)
    return layers
