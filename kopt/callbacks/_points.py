"""The two sets of weights of an optimizer, whichever kind it is."""

from __future__ import annotations

import keras
import numpy as np

from kopt._keras.averages import averages
from kopt.callbacks import _targets
from kopt.optimizers import Wrapper


class WrapperPoint:
    """The evaluation point of a kopt wrapper, which records where the model is.

    Args:
        wrapper: The wrapper that the model is compiled with.
    """

    def __init__(self, wrapper: Wrapper) -> None:
        self._wrapper = wrapper

    def swap_to_eval(self) -> bool:
        """Bring the model there; whether it was elsewhere."""
        before = self._at()
        self._wrapper.swap_to_eval()
        return self._at() != before

    def swap_to_train(self) -> None:
        """Bring the model back, bit for bit."""
        self._wrapper.swap_to_train()

    def _at(self) -> list[int]:
        """Where the wrappers, from the outer to the inner, say that the model is."""
        points, level = [], self._wrapper
        while isinstance(level, Wrapper):
            points += [int(level.point.numpy())] if level.built else []
            level = level.inner_optimizer
        return points


class AveragePoint:
    """The moving average of an optimizer with `use_ema`.

    Keras writes the average over the weights when `fit` ends, and its optimizers do not
    record it. So the model is at the average only while it is evaluated, a checkpoint
    finds it as it was trained, and the last weights are remembered for the next `fit`.

    Args:
        optimizer: An optimizer with `use_ema`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._optimizer = optimizer
        self._trained: list[np.ndarray] = []
        self._at_average = self._written = False

    def swap_to_eval(self) -> bool:
        """Bring the model there; whether it was elsewhere."""
        if self._written:
            self._written, self._at_average = False, True
            return True
        if self._at_average or not _targets.batches_seen(self._optimizer):
            return False
        self.remember()
        for variable, average in self._pairs():
            variable.assign(average)
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
        self._at_average = True
        return True

    def swap_to_train(self) -> None:
        """Bring the model back, bit for bit."""
        if not self._at_average:
            return
        for (variable, _), value in zip(self._pairs(), self._trained, strict=True):
            variable.assign(value)
        self._at_average = False

    def remember(self) -> None:
        """Note the weights that the model is trained at."""
        self._trained = [
            np.array(keras.ops.convert_to_numpy(variable))
            for variable, _ in self._pairs()
        ]

    def written(self) -> None:
        """Note that Keras has put the average into the model."""
        self._written = bool(self._trained)

    def _pairs(self) -> list[tuple[keras.Variable, keras.Variable]]:
        return averages(self._optimizer)


Point = WrapperPoint | AveragePoint


def point_of(optimizer: keras.optimizers.Optimizer) -> Point | None:
    """The evaluation point of an optimizer, or `None` if it has just one point."""
    level = optimizer
    while isinstance(level, Wrapper):
        if level.evaluates_at is not None:
            return WrapperPoint(optimizer)
        level = level.inner_optimizer
    return AveragePoint(level) if getattr(level, "use_ema", False) else None
