"""Where a model stands: at the weights it is trained at, or those to evaluate at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kopt.optimizers._tracks import Track, exchange, for_each

#: What the model holds: weights that no step was taken from yet, those that it is
#: trained at, or those that it is evaluated at.
NEW, TRAINING, EVALUATION = 0, 1, 2


class Places:
    """The two sets of weights of one optimizer, and the way between them.

    A variable that somebody else has written, or that was frozen, has no way back: its
    copies start again at what it holds.

    Args:
        tracks: All variables of the optimizer, with their copies.
        point: The optimizer's variable that records what the model holds.
        slot: The copy to evaluate at, or `None` if there is none.
        restart: Sets the copies of a variable to what it holds.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        point: keras.Variable,
        slot: str | None,
        restart: Callable[[Track], None],
    ) -> None:
        self._tracks = list(tracks)
        self._kept = [track for track in tracks if track.slots]
        self._point = point
        self._slot = slot
        self._restart = restart

    def holds(self, point: int) -> bool:
        """Whether the model is at a point; not in a traced function."""
        return int(self._point.numpy()) == point

    def settle(self, changed: tf.Tensor) -> tf.Tensor:
        """Before a step: bring the model to where it is trained.

        Args:
            changed: A boolean vector, by the position of variables: which of them
                somebody else has written.

        Returns:
            Which variables have started again, as such a vector.
        """
        point = tf.convert_to_tensor(self._point.value)
        frozen = tf.constant([is_frozen(track) for track in self._tracks])
        again = changed | (frozen & (point == EVALUATION))
        for_each(
            self._begin,
            self._kept,
            scalars=[point, again],
            when=(point != TRAINING) | tf.reduce_any(changed),
        )
        self._point.assign(TRAINING)
        return again

    def _begin(self, track: Track, point: Any, again: Any) -> None:
        def leave() -> None:
            if self._slot is not None:
                exchange(track, self._slot, to_eval=False)

        tf.cond(
            again[track.index] | (point == NEW),
            lambda: self._restart(track),
            lambda: tf.cond(point == EVALUATION, leave, lambda: None),
        )

    def to_eval(self) -> None:
        """Bring the model to where it is evaluated."""
        self.restart(track for track in self._kept if is_frozen(track))
        self._move(to_eval=True)
        self._point.assign(EVALUATION)

    def to_train(self) -> None:
        """Bring the model back, bit for bit."""
        self.restart(track for track in self._kept if is_frozen(track))
        self._move(to_eval=False)
        self._point.assign(TRAINING)

    def restart(self, tracks: Iterable[Track]) -> None:
        """Set the copies of variables to what these hold."""
        for track in tracks:
            self._restart(track)

    def _move(self, *, to_eval: bool) -> None:
        for track in self._kept:
            exchange(track, str(self._slot), to_eval=to_eval)


def is_frozen(track: Track) -> bool:
    """Whether the variable is not to be trained any more."""
    return not track.variable.trainable
