"""Remember the state of a model in training, to go back to it exactly."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Snapshot:
    """The values of some variables and of the random generators of Python and NumPy.

    Copies lie in the host's memory, and `restore` may be called more than once. What
    TensorFlow's own stateful operations draw from (`tf.random.normal` with a global
    seed, the shuffling of a `tf.data` pipeline) cannot be read, so is not in it.

    Args:
        variables: The variables to remember.
    """

    def __init__(self, variables: Iterable[keras.Variable]):
        self._values = [(v, _copy(v)) for v in variables]
        self._python = random.getstate()
        self._numpy = np.random.get_state()

    def restore(self) -> None:
        """Set everything back to the moment of construction."""
        for variable, value in self._values:
            variable.assign(value)
        random.setstate(self._python)
        np.random.set_state(self._numpy)


def training_state(model: keras.Model) -> list[Any]:
    """All that training changes in a compiled model, but for its metrics.

    Weights, statistics, seed generators, and the optimizer's slots and counters; with
    the seed generator that `keras.random` uses where no seed is given.
    """
    return [*model.variables, *model.optimizer.variables, *_global_seed()]


def _global_seed() -> list[Any]:
    # Keras does not hand out its global seed generator, but a traced function that
    # would draw from it shows which variable that is, without drawing. If there is no
    # generator yet, tracing makes one, with a seed from Python's generator.
    python = random.getstate()
    draw = tf.function(lambda: keras.random.uniform(()))
    variables = list(draw.get_concrete_function().variables)
    random.setstate(python)
    return variables


def _copy(variable: Any) -> np.ndarray:
    # What Keras returns may share the variable's memory.
    return np.array(keras.ops.convert_to_numpy(variable))
