"""Steps that a model compiled before it, or a part of it, changed.

Keras traces a model's layers once into `train_function`, `test_function` and
`predict_function`, which are public but documented nowhere, and never looks again.
"""

from __future__ import annotations

import keras

from kopt._keras.holdings import held_layers
from kopt._keras.layer_tree import with_nested_layers
from kopt._living import living


def forget_compiled_functions(model: keras.Model) -> None:
    """Have every model that a change of `model` concerns trace its steps again.

    The steps that `fit`, `evaluate` and `predict` traced before hold the layers as they
    were then. They are forgotten by the model itself, by the models inside it, and by
    all other models that hold one of its layers: a model around it, one that shares a
    part with it, a student whose teacher it is. No layer knows these, so they are
    looked for among all models that are alive. Of models that `gc.freeze` has taken off
    Python's list of objects only `model` and those inside it are found.

    Optimizers and their state stay. In the middle of `fit` the next step is a new one.
    A `tf.function` that the user wrote around a model is out of reach, and has to be
    made again by the user.
    """
    layers = list(with_nested_layers(model))
    changed = {id(layer) for layer in layers}
    inside = [layer for layer in layers if isinstance(layer, keras.Model)]
    for one in {id(one): one for one in [*inside, *living(keras.Model)]}.values():
        if _has_steps(one) and not changed.isdisjoint(held_layers(one)):
            _renew_steps(one)


def forget_training_steps(optimizer: keras.optimizers.Optimizer) -> None:
    """Have every model that an optimizer trains trace its training step again."""
    for model in living(keras.Model):
        around = getattr(model, "optimizer", None)
        while around is not None and around is not optimizer:
            around = getattr(around, "inner_optimizer", None)
        if around is not None:
            forget_training_step(model)


def forget_training_step(model: keras.Model) -> None:
    """Have a model trace its training step again, if it has one."""
    if model.train_function is not None:
        model.make_train_function(force=True)


def _has_steps(model: keras.Model) -> bool:
    names = ("train_function", "test_function", "predict_function")
    return any(getattr(model, name, None) is not None for name in names)


def _renew_steps(model: keras.Model) -> None:
    # Not set to None: `fit` looks for the function at each step, without making it.
    forget_training_step(model)
    if model.test_function is not None:
        model.make_test_function(force=True)
    if model.predict_function is not None:
        model.make_predict_function(force=True)
