"""The state of a model: all that a pass through it reads and may move.

`Model.variables` lists the weights, statistics and seeds that Keras tracks. It leaves
out the states of stateful recurrent layers, variables that a layer of the user's own
holds past Keras, the metrics of layers, and the seeds of random numbers without a
layer, to which there is no public way.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.random.seed_generator import (
    GLOBAL_SEED_GENERATOR,
    global_seed_generator,
)

from kopt._keras.holdings import held_variables
from kopt._keras.layer_tree import with_nested_layers


def model_state(model: keras.Model, *, attached: bool = True) -> list[Any]:
    """Every variable that belongs to a model, each once.

    First those of `model.variables`, in their order; then those that Keras does not
    track: states of recurrent layers, variables in attributes of any kind, metrics, the
    hyperparameters that kopt keeps in variables. Last the seed that `keras.random`
    draws from where none is given.

    Args:
        model: A built model.
        attached: Whether to list what kopt attaches to a model, such as masks.
    """
    # It belongs to a thread; those of replicas have none, and Keras cannot make one
    # there.
    unseeded = get_global_attribute(GLOBAL_SEED_GENERATOR)
    seeds = [] if unseeded is None else [unseeded.state]
    found = [*model.variables, *held_variables(model, attached=attached), *seeds]
    return list({id(variable): variable for variable in found}.values())


def other_variables(model: keras.Model) -> list[Any]:
    """What a pass reads beside trainable weights, but for the metrics of a fit."""
    apart = [*model.trainable_variables, *model.metrics_variables]
    left_out = {id(variable) for variable in apart}
    found = model_state(model, attached=False)
    return [one for one in found if id(one) not in left_out]


def moved_by_passes(model: keras.Model) -> list[Any]:
    """What a training pass may move: statistics, seeds, states of layers, metrics.

    Weights are not in it, those of frozen layers neither.
    """
    # A frozen layer lists its weights with those that are not trained.
    weights = {
        id(variable)
        for layer in with_nested_layers(model)
        for variable in layer._trainable_variables
    }
    found = [*model_state(model, attached=False), *model.metrics_variables]
    return [
        variable
        for variable in {id(one): one for one in found}.values()
        if id(variable) not in weights
    ]


def make_unseeded_generator() -> None:
    """See that the source of unseeded random numbers is there before a pass."""
    # Its own seed comes from Python's generator, which goes on as if it were not there.
    state = random.getstate()
    global_seed_generator()
    random.setstate(state)


@contextmanager
def state_kept(model: keras.Model, moving: Iterable[Any] = ()) -> Iterator[None]:
    """Undo, on leaving, what passes inside did to a model's state.

    For passes that are kopt's own and no part of the user's training: a stateful layer
    then goes on from where the user left it. Trainable weights are not looked at. Works
    in a graph too.

    Args:
        model: A built model.
        moving: Variables that keep what they are given inside.
    """
    if tf.executing_eagerly():
        make_unseeded_generator()
    trained = {id(variable) for variable in [*model.trainable_variables, *moving]}
    kept = [
        (variable, read(variable))
        for variable in model_state(model, attached=False)
        if id(variable) not in trained
    ]
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def read(variable: Any) -> tf.Tensor:
    """The present value of a variable, which later assignments leave alone."""
    if isinstance(variable, keras.Variable):
        variable = variable.value
    return tf.identity(variable)
