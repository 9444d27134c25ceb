"""The call of an optimizer that a constraint is in the middle of.

Keras calls a constraint with the weights alone. It has no public way to know which
optimizer is calling, whether that call moves variables, or where the optimizer keeps
the moving average of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.backend.common import global_state


class Update(NamedTuple):
    """One call of an optimizer's `apply`.

    Args:
        call: An object that stands for the call. Wrapped optimizers share the one of
            the outermost.
        optimizer: The innermost optimizer, the one that moves the variables.
        branch: An object that stands for the branch of the call that is being traced;
            the call itself where nothing is traced.
        around: The optimizers that stand around it, the outermost first.
    """

    call: Any
    optimizer: keras.optimizers.Optimizer
    branch: Any = None
    around: tuple[keras.optimizers.Optimizer, ...] = ()


def running_update() -> Update | None:
    """The optimizer call that we are inside of, if any."""
    # `apply` opens a name scope with itself as the caller.
    scopes = global_state.get_global_attribute("name_scope_stack") or []
    calls = [s for s in scopes if isinstance(s.caller, keras.optimizers.Optimizer)]
    if not calls:
        return None
    *around, innermost = [scope.caller for scope in calls]
    branch = calls[0] if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    return Update(calls[0], innermost, branch, tuple(around))


def moves_variables(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> Any:
    """Whether this call updates any of some variables.

    Not so while gradients are gathered, nor where an optimizer stands around another
    one, which has updated them before.

    Returns:
        A boolean, or a boolean tensor where the optimizer accumulates gradients.
    """
    if hasattr(optimizer, "inner_optimizer"):
        return False
    steps = optimizer.gradient_accumulation_steps
    if hasattr(optimizer, "is_moving"):
        return optimizer.is_moving(variables)
    if not steps:
        return True
    # `iterations` counts updates; only the private counter knows the batches between.
    return keras.ops.equal((optimizer._iterations + 1) % steps, 0)


def evaluated(update: Update, variable: keras.Variable) -> list[keras.Variable]:
    """What a variable is evaluated at in place of its own values.

    That is the average that `use_ema` keeps, and what kopt's wrappers
    (`WeightAverage`, `Lookahead`, `ScheduleFree` ...) keep for it.
    """
    kept = [
        optimizer.state(variable)[optimizer.evaluates_at]
        for optimizer in update.around
        if getattr(optimizer, "evaluates_at", None) is not None
    ]
    if update.optimizer.use_ema:
        index = update.optimizer._get_variable_index(variable)
        kept.append(update.optimizer._model_variables_moving_average[index])
    return kept
