"""The two sets of weights of a wrapper, and when what it keeps starts again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kopt.optimizers._fingerprints import Fingerprints
from kopt.optimizers._places import EVALUATION, TRAINING, Places, is_frozen
from kopt.optimizers._tracks import Batch, Track, read, write

#: A counter of steps that was not saved: as many as the optimizer has taken.
UNKNOWN = -1


class TwoPoints:
    """The points of a wrapper: where the model is trained, and where it is evaluated.

    Only the outermost wrapper looks whether somebody else has written the weights; it
    tells those inside.
    """

    #: Slots whose first values are the weights before the first step.
    copies: ClassVar[tuple[str, ...]] = ()
    #: Slots that start from zero.
    zeros: ClassVar[tuple[str, ...]] = ()
    #: The slot with the weights to evaluate at; `None` if those are the model's.
    evaluates_at: ClassVar[str | None] = None
    #: Whether those weights are an average over the steps.
    averages: ClassVar[bool] = False
    inner_optimizer: keras.optimizers.Optimizer
    numbers: dict[str, keras.Variable]
    kept_tracks: list[Track]
    built: bool
    #: Whether another wrapper stands around this one, and looks at the weights.
    is_inside = False
    _tracks: list[Track]
    _places: Places
    _written: Fingerprints

    # What a wrapper may define.

    def evaluates(self) -> bool:
        """Whether there are other weights to evaluate at than the model's."""
        return self.evaluates_at is not None

    def counters(self) -> Mapping[str, str]:
        """Numbers that the wrapper keeps one of for each variable, with their dtypes.

        They start from zero, in `numbers`, as a vector by the position of variables.
        """
        return {}

    def restarted(self, name: str, counter: Any) -> Any:
        """What a counter becomes where a variable starts again; zero at first."""
        return tf.zeros_like(counter)

    def known_steps(self) -> Any:
        """How many steps each variable has taken, by the counter `"steps"`."""
        taken = ops.cast(self.inner_optimizer.iterations, "int32")
        steps = tf.convert_to_tensor(self.numbers["steps"].value)
        return tf.where(steps == UNKNOWN, taken, steps)

    def count_steps(self, batch: Batch, moved: Any) -> Any:
        """Count a step of some variables, if `moved`; returns the steps of all."""
        taken = ops.cast(self.inner_optimizer.iterations, "int32")
        taken = taken - tf.cast(moved, "int32")
        one = tf.cast(batch.taken(moved), "int32")
        steps = tf.convert_to_tensor(self.numbers["steps"].value)
        steps = tf.where(steps == UNKNOWN, taken, steps) + one * self.among(batch)
        self.numbers["steps"].assign(steps)
        return steps

    def among(self, batch: Batch) -> np.ndarray:
        """Ones for the variables of a batch, zeros for others, by their position."""
        mine = {track.index for track in batch.tracks}
        return np.array([track.index in mine for track in self._tracks], "int32")

    def averaged(self) -> np.ndarray:
        """Which variables have something to be evaluated at, a boolean vector."""
        return np.ones(len(self._tracks), bool)

    # The points of a model.

    def swap_to_eval(self) -> None:
        """Bring the model to the weights that it is evaluated at.

        Nothing happens if it holds them, or before the first step.
        """
        if self.built:
            self._start_again(self._changed())
            self._come()
            self._written.note()

    def swap_to_train(self) -> None:
        """Bring the model back to the weights that it is trained at, bit for bit."""
        if self.built:
            self._start_again(self._changed())
            self._leave()
            self._written.note()

    def _come(self) -> None:
        if self._places.holds(TRAINING) and self.evaluates():
            averaged = self.averaged()
            self._places.restart(t for t in self.kept_tracks if not averaged[t.index])
            self._forget(self._frozen())
            self._places.to_eval()
        if isinstance(self.inner_optimizer, TwoPoints) and not self.averages:
            self.inner_optimizer._come()

    def _leave(self) -> None:
        if isinstance(self.inner_optimizer, TwoPoints):
            self.inner_optimizer._leave()
        if self._places.holds(EVALUATION):
            self._forget(self._frozen())
            self._places.to_train()

    def _changed(self) -> np.ndarray:
        """Which variables somebody else has written."""
        return np.array(self._written.changed())

    def _frozen(self) -> np.ndarray:
        return np.array([is_frozen(track) for track in self._tracks])

    def _start_again(self, changed: np.ndarray) -> None:
        """From what some variables hold; those of a boolean vector."""
        if isinstance(self.inner_optimizer, TwoPoints):
            self.inner_optimizer._start_again(changed)
        self._places.restart(t for t in self.kept_tracks if changed[t.index])
        self._forget(changed)

    def _forget(self, again: Any) -> None:
        """Count some variables from their start again."""
        for name in self.counters():
            counter = read(self.numbers[name])
            value = tf.where(again, self.restarted(name, counter), counter)
            self.numbers[name].assign(value)

    def _restart(self, track: Track) -> None:
        for name, slot in track.slots.items():
            present = read(track.variable)
            write(slot, tf.zeros_like(present) if name in self.zeros else present)

    def finalize(self) -> None:
        """Leave the model with the weights to keep, those that it is evaluated at."""
        self.swap_to_eval()

    def settle(self, changed: tf.Tensor) -> None:
        """Before a step: note the first weights, or leave the evaluation point.

        Args:
            changed: A boolean vector by the position of variables: which of them
                somebody else has written.
        """
        if isinstance(self.inner_optimizer, TwoPoints):
            self.inner_optimizer.settle(changed)
        self._forget(self._places.settle(changed))

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Leave some variables with the weights to keep; others stay as they are."""
        if self.built:
            wanted = {id(variable) for variable in var_list}
            others = [id(track.variable) not in wanted for track in self._tracks]
            if not self._at_evaluation():
                self._start_again(np.array(others))
        self.finalize()

    def _at_evaluation(self) -> bool:
        level: Any = self
        while isinstance(level, TwoPoints):
            if level._places.holds(EVALUATION):
                return True
            level = level.inner_optimizer
        return False
