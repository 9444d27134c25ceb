"""Remember the state of a model in training, to go back to it exactly."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kopt._keras.model_state import make_unseeded_generator, model_state


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

    The model's state (weights, statistics, seeds, states of recurrent layers), and the
    optimizer's slots and counters.
    """
    # With the seed generator that `keras.random` uses where no seed is given.
    make_unseeded_generator()
    metrics = {id(variable) for variable in model.metrics_variables}
    found = [*model_state(model), *model.optimizer.variables]
    return [variable for variable in found if id(variable) not in metrics]


def _copy(variable: Any) -> np.ndarray:
    # What Keras returns may share the variable's memory.
    return np.array(keras.ops.convert_to_numpy(variable))
