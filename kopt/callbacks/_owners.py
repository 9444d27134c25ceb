"""Who moves a variable: at most one curve, and any number of factors.

A curve sets the variable before each batch, so what a second one writes there is lost,
and so is what Keras's own callbacks write. A factor beside a curve does not write: it
holds a number, by which the curve's callback multiplies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import keras

from kopt._keras.callbacks_beside import callbacks_beside
from kopt.callbacks import _targets

_PLATEAU = keras.callbacks.ReduceLROnPlateau
_SCHEDULER = keras.callbacks.LearningRateScheduler
_INSTEAD: dict[type, str] = {
    _PLATEAU: "Use kopt.callbacks.ReduceOnPlateau in its place: it scales the curve.",
    _SCHEDULER: (
        "Leave one of them out. Parts that follow each other are "
        "kopt.schedules.Sequential(schedules, boundaries)."
    ),
}


class Mover(keras.callbacks.Callback):
    """A callback that moves a hyper-parameter while a model is trained."""

    #: What it moves, as `_targets.find` takes it.
    target: _targets.Target
    #: Whether it sets the value; else it scales what is set.
    is_curve = False
    #: What a curve's values are multiplied by.
    scale = 1.0
    #: The callback that this one does a part of the moving for, if any.
    part_of: Mover | None = None

    def described(self) -> str:
        """The callback as an error names it."""
        return type(self).__name__

    def parts(self) -> Sequence[Mover]:
        """The callbacks that move one target each, where this one moves several."""
        return (self,)

    def check_alone(self, variables: Sequence[keras.Variable]) -> None:
        """Refuse what would fight with this callback, when training begins.

        Args:
            variables: What it moves.

        Raises:
            ValueError: If another curve drives one of them, or one of Keras's callbacks
                sets it.
        """
        for other in _beside(self):
            taken = _taken(self.model, variables, other)
            if taken is None:
                continue
            if not isinstance(other, Mover):
                self._check_callback_of_keras(other, taken)
            elif self.is_curve and other.is_curve:
                raise ValueError(
                    f"Two curves drive {taken.path!r}: {_name(self)} and "
                    f"{_name(other)}. What one of them sets would be overwritten "
                    "by the other at every batch. Leave one out, or join their "
                    "schedules: kopt.schedules.Sequential(schedules, boundaries)."
                )

    def movers_beside(self, variables: Sequence[keras.Variable]) -> Iterator[Mover]:
        """The other callbacks that move one of some variables."""
        for other in _beside(self):
            if not isinstance(other, Mover):
                continue
            if _taken(self.model, variables, other) is not None:
                yield other

    def _check_callback_of_keras(
        self, other: keras.callbacks.Callback, taken: keras.Variable
    ) -> None:
        if isinstance(other, _PLATEAU) and not self.is_curve:
            return  # Both multiply what is there.
        instead = next(text for kind, text in _INSTEAD.items() if _is(other, kind))
        raise ValueError(
            f"{type(other).__name__} cannot run beside {_name(self)}: both set "
            f"{taken.path!r}, and the one overwrites the other. {instead}"
        )


def product(movers: Sequence[Mover]) -> float:
    """What a curve's value is to be multiplied by."""
    return math.prod(mover.scale for mover in movers)


def parts_of(callback: keras.callbacks.Callback) -> Sequence[keras.callbacks.Callback]:
    """A callback, or the parts of one that moves several targets."""
    return callback.parts() if isinstance(callback, Mover) else (callback,)


def _beside(mover: Mover) -> Iterator[keras.callbacks.Callback]:
    for other in callbacks_beside(mover.part_of or mover):
        yield from parts_of(other)


def _name(mover: Mover) -> str:
    return (mover.part_of or mover).described()


def _taken(
    model: keras.Model,
    variables: Sequence[keras.Variable],
    other: keras.callbacks.Callback,
) -> keras.Variable | None:
    """One of some variables that another callback moves as well."""
    if isinstance(other, Mover):
        moved = _targets.find(model, other.target)
    elif any(_is(other, kind) for kind in _INSTEAD):
        moved = [_targets.optimizer_of(model).learning_rate]
    else:
        return None
    known = {id(variable) for variable in moved}
    return next((one for one in variables if id(one) in known), None)


def _is(callback: keras.callbacks.Callback, kind: type) -> bool:
    return isinstance(callback, kind)
