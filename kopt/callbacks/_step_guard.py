"""Act when the training step of a `fit` fails: the one thing that callbacks miss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class StepGuard:
    """Stands around a model's `train_function` and tells of its exceptions.

    Keras calls no callback when training is interrupted or fails. The guard lets the
    exception pass on after `on_failure` has run. It only watches the batch after each
    `expect`, so a guard that was left behind, because something else ended `fit`, does
    nothing in a later one.

    Args:
        model: A model in `fit`.
        on_failure: Called without arguments.
    """

    def __init__(self, model: keras.Model, on_failure: Callable[[], None]):
        self._model = model
        self._on_failure = on_failure
        self._expecting = False
        self._train_function = model.train_function
        self._guarded = self._run
        model.train_function = self._guarded

    def expect(self) -> None:
        """Watch the coming batch."""
        self._expecting = True

    def remove(self) -> None:
        """Give the model its own `train_function` back."""
        if self._model.train_function is self._guarded:
            self._model.train_function = self._train_function

    def _run(self, iterator: Any) -> Any:
        expecting, self._expecting = self._expecting, False
        try:
            return self._train_function(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            raise  # The end of the data.
        except BaseException:
            if expecting:
                self._on_failure()
            raise
