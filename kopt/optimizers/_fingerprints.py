"""Notice that somebody else has written a model's weights.

`set_weights`, `load_weights`, `EarlyStopping(restore_best_weights=True)` or a hand-made
assignment leave no trace that an optimizer could read. So it notes some of the numbers
that it wrote last, and compares them bit for bit when it is called again. The numbers
lie along the diagonal of each variable as a matrix, and around where that ends, so that
they meet every unit and every input of up to 4096; variables of up to 256 numbers are
noted whole. What stays unnoticed is a change of some numbers of a larger variable that
are neither a whole row nor a whole column of it, or of a few of more than 4096 rows.
A sum over all the bits would notice that too, and take a quarter of a wrapper's step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# A step costs two gathers of so many numbers a variable, which do not show beside its
# arithmetic.
_WHOLE, _AT_MOST = 256, 4096


class Fingerprints:
    """Some numbers of each variable, as its optimizer left them.

    A saved state has them too, so that what is written into a model between loading
    and the first step is noticed. State that was restored in another way is known by
    the counter.

    Args:
        variables: The variables of the model.
        counter: Gives a number that grows with the updates.
        tolerance: The share of a variable's largest noted number by which it may move
            without being noticed.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        counter: Callable[[], Any],
        tolerance: float = 0.0,
    ) -> None:
        self._variables = list(variables)
        self._counter = counter
        self._tolerance = tolerance
        self._places = [_places(tuple(v.shape)) for v in self._variables]
        counts = [len(places) for places in self._places]
        self._owners = np.repeat(np.arange(len(counts)), counts)
        doubles = any(v.dtype == "float64" for v in self._variables)
        self._dtype = "float64" if doubles else "float32"
        self._noted = self._unknown(sum(counts) + 1)

    def note(self, count: Any = None) -> None:
        """Remember the present numbers.

        Args:
            count: What the counter is going to be. Defaults to what it is.
        """
        self._noted.assign(self._present(count))

    def forget(self) -> None:
        """Take the variables as they will be found."""
        self._noted.assign(np.full(self._noted.shape, np.nan, self._dtype))

    def numbers(self) -> np.ndarray:
        """What is noted, for a saved state."""
        return np.array(self._noted)

    def restore(self, numbers: np.ndarray | None) -> None:
        """Note what a saved state has; without it, take the variables as they are."""
        if numbers is None or numbers.shape != tuple(self._noted.shape):
            self.forget()
        else:
            self._noted.assign(numbers.astype(self._dtype))

    def changed(self) -> tf.Tensor:
        """Which variables somebody else has written, a boolean vector."""
        noted = tf.convert_to_tensor(self._noted)
        present = self._present()
        difference = tf.abs(present[:-1] - noted[:-1])
        allowed = tf.zeros((), self._dtype)
        if self._tolerance:
            largest = self._largest(tf.abs(noted[:-1]))
            allowed = self._tolerance * tf.gather(largest, self._owners)
        # What was not noted is no number, and is not greater than anything.
        beyond = tf.cast(difference > allowed, "float32")
        count = len(self._variables)
        changed = tf.math.unsorted_segment_max(beyond, self._owners, count) > 0
        # Another count of updates: model and state were restored together. A count of
        # zero is not enough to say so, for it may have been set by hand.
        restored = (present[-1] != noted[-1]) & (present[-1] != 0)
        return changed & ~restored

    def _largest(self, numbers: Any) -> Any:
        return tf.math.unsorted_segment_max(numbers, self._owners, len(self._variables))

    def _present(self, count: Any = None) -> tf.Tensor:
        numbers = [
            tf.cast(_noted(variable, places), self._dtype)
            for variable, places in zip(self._variables, self._places, strict=True)
        ]
        count = self._counter() if count is None else count
        count = tf.cast(tf.convert_to_tensor(count), self._dtype)
        return tf.concat([*numbers, tf.reshape(count, (1,))], axis=0)

    def _unknown(self, count: int) -> tf.Variable:
        """A variable of each replica's own, which it may write by itself."""
        strategy = tf.distribute.get_strategy()
        scope = strategy.scope() if tf.distribute.has_strategy() else nullcontext()
        with tf.init_scope(), scope:
            return tf.Variable(
                np.full(count, np.nan, self._dtype),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )


def _noted(variable: keras.Variable, places: np.ndarray) -> Any:
    if len(places) == math.prod(variable.shape):
        return tf.reshape(tf.convert_to_tensor(variable.value), (-1,))
    return tf.gather_nd(variable.value, places)


def _places(shape: tuple[int, ...]) -> np.ndarray:
    """Positions of the numbers to note, of shape `(count, rank)`."""
    size = math.prod(shape)
    if size <= _WHOLE:
        return np.zeros((size, len(shape)), "int32")  # All of them.
    columns = shape[-1]
    rows = size // columns
    longest = max(rows, columns)
    steps = np.arange(max(longest, _WHOLE))
    if longest > _AT_MOST:
        steps = np.linspace(0, longest - 1, _AT_MOST).astype("int64")
    # Each step goes on by one row and one column, and around where they end; the second
    # time around lies beside the first.
    flat = (steps % rows) * columns + (steps + steps // longest) % columns
    return np.stack(np.unravel_index(flat, shape), axis=-1).astype("int32")
