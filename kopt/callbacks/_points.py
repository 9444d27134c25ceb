"""The two sets of weights of an optimizer, whichever kind it is."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from kopt._keras.averages import averages
from kopt.callbacks import _targets
from kopt.optimizers import Optimizer, Wrapper


class RecordedPoint:
    """The evaluation point of a kopt optimizer, which records where the model is.

    Args:
        optimizer: A wrapper, or an optimizer with `use_ema`.
    """

    def __init__(self, optimizer: Wrapper | Optimizer) -> None:
        self._optimizer = optimizer

    def swap_to_eval(self) -> bool:
        """Bring the model there; whether it was elsewhere."""
        before = self._at()
        self._optimizer.swap_to_eval()
        return self._at() != before

    def swap_to_train(self) -> None:
        """Bring the model back, bit for bit."""
        self._optimizer.swap_to_train()

    def finalized(self) -> None:
        """Keras has asked the optimizer for the weights to keep."""

    def get_state(self) -> None:
        """Nothing: all of it is in variables of the optimizer."""

    def set_state(self, state: None) -> None:
        """Nothing to set."""

    def _at(self) -> list[int]:
        """Where the optimizers, from the outer to the inner, say that the model is."""
        points: list[int] = []
        level: Any = self._optimizer
        while isinstance(level, (Wrapper, Optimizer)):
            point = level.point if level.built else None
            points += [] if point is None else [int(point.numpy())]
            level = getattr(level, "inner_optimizer", None)
        return points


class AveragePoint:
    """The moving average of an optimizer of Keras with `use_ema`.

    It does not record what the model holds, so the weights that train are remembered
    here while the model is elsewhere, and a checkpoint of the model does not hold them.

    Args:
        optimizer: An optimizer with `use_ema`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._optimizer = optimizer
        # What trained, and what was written over it, for each variable.
        self._away: list[tuple[keras.Variable, np.ndarray, np.ndarray]] = []

    def swap_to_eval(self) -> bool:
        """Bring the model there; whether it was elsewhere."""
        if self._away or not _targets.batches_seen(self._optimizer):
            return False
        for variable, average in averages(self._optimizer):
            if variable.trainable:
                trained = _copy(variable)
                self._away.append((variable, trained, _written(variable, average)))
        return True

    def swap_to_train(self) -> None:
        """Bring the model back, bit for bit, where nobody else has written since."""
        for variable, trained, written in self._away:
            if variable.trainable and np.array_equal(_copy(variable), written):
                variable.assign(trained)
        self._away = []

    def finalized(self) -> None:
        """Keras has written the averages over the model, without constraints."""
        kept = {id(v): a for v, a in averages(self._optimizer)}
        for place, (variable, trained, _) in enumerate(self._away):
            average = kept[id(variable)]
            if np.array_equal(_copy(variable), _cast(average, variable)):
                written = _written(variable, average)
                self._away[place] = variable, trained, written

    def get_state(self) -> list[Any]:
        """What trained and what was written, by the place of the variable."""
        places = {id(v): n for n, (v, _) in enumerate(averages(self._optimizer))}
        return [[places[id(v)], trained, written] for v, trained, written in self._away]

    def set_state(self, state: list[Any]) -> None:
        """Take the model, which is where the state was, for away."""
        variables = [variable for variable, _ in averages(self._optimizer)]
        self._away = [(variables[n], trained, new) for n, trained, new in state]


Point = RecordedPoint | AveragePoint

_average_points: WeakKeyDictionary[Any, AveragePoint] = WeakKeyDictionary()


def point_of(optimizer: keras.optimizers.Optimizer) -> Point | None:
    """The evaluation point of an optimizer, or `None` if it has just one point.

    The same object for the same optimizer of Keras, whichever callback asks.
    """
    level = optimizer
    while isinstance(level, Wrapper):
        if level.evaluates_at is not None:
            return RecordedPoint(optimizer)
        level = level.inner_optimizer
    if not getattr(level, "use_ema", False):
        return None
    if isinstance(level, Optimizer):
        return RecordedPoint(level)
    return _average_points.setdefault(level, AveragePoint(level))


def _written(variable: keras.Variable, average: keras.Variable) -> np.ndarray:
    """Write an average into a variable, under its constraint."""
    variable.assign(average)
    if variable.constraint is not None:
        variable.assign(variable.constraint(variable))
    return _copy(variable)


def _copy(variable: keras.Variable) -> np.ndarray:
    # What Keras returns may share the variable's memory.
    return np.array(keras.ops.convert_to_numpy(variable))


def _cast(average: keras.Variable, variable: keras.Variable) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(keras.ops.cast(average, variable.dtype)))
