"""Penalties that the optimizer applies after its step, and that reach exact zeros.

A step down the gradient of a penalty with a corner at zero jumps over the corner. The
proximal step goes to the minimum of the penalty beside the distance to the weights
instead, and for L1 and lengths of groups that is a soft threshold.
"""

from __future__ import annotations

import weakref
from typing import Any

import keras
from keras import ops

from kopt._keras.recording import is_recording
from kopt._living import living
from kopt.regularizers._penalty import Penalty

_MODELS: weakref.WeakKeyDictionary[keras.Model, Any] = weakref.WeakKeyDictionary()


class ProximalPenalty(Penalty):
    """A penalty that a kopt optimizer can apply after its step.

    A subclass sets `proximal` and gives `shrunk`. The engine of the optimizers knows no
    more of it than these two.
    """

    proximal: bool

    def __call__(self, x: Any) -> Any:
        value = super().__call__(x)
        if not self.proximal:
            return value
        if isinstance(x, keras.Variable) and is_recording():
            _check_optimizer(self, x)
        # The loss shows the penalty; its gradient is the optimizer's matter.
        return ops.stop_gradient(value)

    def shrunk(self, weights: Any, variable: keras.Variable, rate: Any) -> Any:
        """The minimum over w of `rate * penalty(w) + ||w - weights||^2 / 2`.

        Args:
            weights: The values of a variable, in the dtype of the arithmetic.
            variable: The variable, which says what its axes are.
            rate: How far the optimizer's step went, a scalar of the same dtype.
        """
        raise NotImplementedError


def soft_threshold(values: Any, amount: Any) -> Any:
    """Values that are nearer to zero by `amount`, and zero within that of it."""
    return ops.sign(values) * ops.maximum(ops.abs(values) - amount, 0)


def _check_optimizer(penalty: ProximalPenalty, variable: keras.Variable) -> None:
    """Raise where a model is trained by an optimizer that does not shrink.

    A regularizer is not told which model asks, so the model is looked for among those
    that are alive. In a loop of one's own there may be none.
    """
    for model in _compiled_models(variable):
        level = model.optimizer
        while getattr(level, "shrinks", True) and hasattr(level, "inner_optimizer"):
            level = level.inner_optimizer
        if not getattr(level, "shrinks", False):
            name = type(penalty).__name__
            kind = type(level).__name__
            raise ValueError(
                f"{name}(proximal=True) needs an optimizer that applies it after each "
                f"step, which those of kopt do. Received: {model.name!r} compiled with "
                f"{kind}. Compile with a kopt optimizer, for instance kopt.SGD or "
                f"kopt.Adam, or take {name}(proximal=False)."
            )


def _compiled_models(variable: keras.Variable) -> list[keras.Model]:
    """The compiled models that train a variable."""
    known = [model for model in _MODELS if _trains(model, variable)]
    if known:
        return known
    for model in living(keras.Model):
        _MODELS[model] = None
    return [model for model in _MODELS if _trains(model, variable)]


def _trains(model: Any, variable: keras.Variable) -> bool:
    if getattr(model, "optimizer", None) is None:
        return False
    return any(weight is variable for weight in model.trainable_variables)
