"""Act when a model's compiled step fails: the one thing that callbacks miss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class StepGuard:
    """Stands around one of a model's compiled functions and tells of its exceptions.

    Keras calls no callback when training is interrupted or fails. The guard lets the
    exception pass on after `on_failure` has run. It only watches the batch after each
    `expect`, so a guard that was left behind, because something else ended `fit`, does
    nothing in a later one.

    Args:
        model: A model in `fit`, or in another method that runs batches.
        on_failure: Called without arguments.
        name: The model's attribute that holds the function.
    """

    def __init__(
        self,
        model: keras.Model,
        on_failure: Callable[[], None],
        name: str = "train_function",
    ):
        self._model = model
        self._on_failure = on_failure
        self._name = name
        self._expecting = False
        self._function = getattr(model, name)
        self._guarded = self._run
        setattr(model, name, self._guarded)

    def expect(self) -> None:
        """Watch the coming batch."""
        self._expecting = True

    def remove(self) -> None:
        """Give the model its own function back."""
        if getattr(self._model, self._name) is self._guarded:
            setattr(self._model, self._name, self._function)

    def _run(self, iterator: Any) -> Any:
        expecting, self._expecting = self._expecting, False
        try:
            return self._function(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            raise  # The end of the data.
        except BaseException:
            if expecting:
                self._on_failure()
            raise


class ValidationGuard:
    """Stands around a model's `evaluate` while it is in `fit`.

    A `StepGuard` does not see what fails between two batches: a callback of the user's,
    or Ctrl-C while a line is printed.

    Args:
        model: A model in `fit`.
        on_failure: Called without arguments, before the exception passes on.
    """

    def __init__(self, model: keras.Model, on_failure: Callable[[], None]):
        self._model = model
        self._on_failure = on_failure
        self._method = model.evaluate
        self._guarded = self._run
        model.evaluate = self._guarded

    def remove(self) -> None:
        """Give the model its own method back."""
        if vars(self._model).get("evaluate") is not self._guarded:
            return
        del self._model.evaluate
        if self._model.evaluate != self._method:  # Somebody else's guard.
            self._model.evaluate = self._method

    def _run(self, *arguments: Any, **options: Any) -> Any:
        try:
            return self._method(*arguments, **options)
        except BaseException:
            self.remove()
            self._on_failure()
            raise


class BeforeNextStep:
    """Calls something once, before the next batch that a model trains on.

    Also in a later `fit` with other callbacks, or in `train_on_batch`; not once the
    model was compiled again.

    Args:
        model: A model whose training function was made.
        action: Called without arguments.
    """

    def __init__(self, model: keras.Model, action: Callable[[], None]):
        self._model = model
        self._action = action
        self._function = model.train_function
        self._replaced = self._run
        if self._function is not None:
            model.train_function = self._replaced

    def remove(self) -> None:
        """Give the model its own function back."""
        if self._model.train_function is self._replaced:
            self._model.train_function = self._function

    def _run(self, iterator: Any) -> Any:
        self.remove()
        self._action()
        return self._function(iterator)
