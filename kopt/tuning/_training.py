"""The part of a search space that every network shares: how it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

from kopt import _registry
from kopt.callbacks import FitSchedule
from kopt.schedules import Cosine, Warmup

# Learning rates around which each optimizer is searched, with a factor of ten to
# either side. One shared factor makes "a little less than usual" mean the same for
# all of them, and keeps the space free of one rate for every optimizer, which the
# stock Bayesian tuner would have to model as separate dimensions.
_USUAL_RATES = {"sgd": 0.05, "lion": 3e-4}
_USUAL_RATE = 1e-3
_EXTRA_ARGUMENTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True}
}

_REGULARIZERS = ("none", "l1", "l2", "group_lasso")

DEFAULTS: dict[str, Any] = {
    "learning_rate_factor": 1.0,
    "schedule": "cosine",
    "warmup": 0.05,
    "weight_decay": None,
    "regularizer": "none",
    "regularizer_factor": 1e-5,
}


def declare(
    hp: keras_tuner.HyperParameters,
    level: str,
    optimizers: Sequence[str],
    batch_sizes: Sequence[int] | None,
) -> None:
    """Enter the training's hyperparameters in a space."""
    hp.Choice("optimizer", list(optimizers))
    hp.Float("learning_rate_factor", 0.1, 10.0, sampling="log", default=1.0)
    if batch_sizes:
        hp.Choice("batch_size", list(batch_sizes), ordered=True)
    if level == "small":
        return
    hp.Choice("schedule", ["cosine", "constant"])
    hp.Choice("warmup", [0.0, 0.05, 0.2], ordered=True, default=0.05)
    decays = [0.0, 1e-4, 1e-3, 1e-2, 1e-1]
    hp.Choice("weight_decay", decays, ordered=True, default=1e-3)
    hp.Choice("regularizer", list(_REGULARIZERS))
    with hp.conditional_scope("regularizer", list(_REGULARIZERS[1:])):
        hp.Float("regularizer_factor", 1e-6, 1e-3, sampling="log", default=1e-5)


def known_optimizers() -> dict[str, type]:
    """Optimizers by lower-case name: kopt's, and Keras's where kopt has none."""
    keras_ones = {
        name.lower(): thing
        for name, thing in vars(keras.optimizers).items()
        if isinstance(thing, type) and issubclass(thing, keras.optimizers.Optimizer)
    }
    kopt_ones = {
        name.lower(): _registry.entry("optimizers", name)
        for name in _registry.names("optimizers")
    }
    return {**keras_ones, **kopt_ones}


def learning_rate(values: Mapping[str, Any]) -> float:
    """The rate of a trial, before its schedule."""
    usual = _USUAL_RATES.get(values["optimizer"], _USUAL_RATE)
    return usual * values["learning_rate_factor"]


def optimizer(values: Mapping[str, Any]) -> keras.optimizers.Optimizer:
    """The optimizer that a trial's values describe."""
    name = values["optimizer"]
    arguments = dict(_EXTRA_ARGUMENTS.get(name, {}))
    if values["weight_decay"] is not None:
        arguments["weight_decay"] = values["weight_decay"]
    return known_optimizers()[name](learning_rate=learning_rate(values), **arguments)


def regularizer(values: Mapping[str, Any]) -> keras.regularizers.Regularizer | None:
    """The kernel regularizer that a trial's values describe."""
    if values["regularizer"] == "none":
        return None
    make = _registry.entry("regularizers", values["regularizer"])
    return make(values["regularizer_factor"])


def callbacks(
    values: Mapping[str, Any], epochs: int | None
) -> list[keras.callbacks.Callback]:
    """The callback that drives the learning rate over the run, if one is needed."""
    rate: float | Cosine = learning_rate(values)
    if values["schedule"] == "cosine":
        rate = Cosine(rate, steps=1.0)
    elif not values["warmup"]:
        return []
    return [_RunSchedule(Warmup(rate, steps=values["warmup"]), epochs)]


class _RunSchedule(FitSchedule):
    """A schedule over a run of `epochs`, of which one `fit` may be only a part."""

    def __init__(self, schedule: Warmup, epochs: int | None):
        super().__init__(schedule)
        self.epochs = epochs

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.epochs is not None:
            if not self.params["steps"]:
                raise keras_tuner.errors.FatalValueError(
                    "`schedule_epochs` needs to know how many batches an epoch has. "
                    "Pass `steps_per_epoch` to the search, or give the dataset its "
                    "length with `tf.data.experimental.assert_cardinality`."
                )
            self.schedule = self.schedule.bind(self.epochs * self.params["steps"])
        super().on_train_begin(logs)


def batched(
    x: Any, batch_size: int, fit_arguments: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Training data and `fit` arguments that make batches of `batch_size`."""
    if fit_arguments.get("batch_size") is not None:
        raise keras_tuner.errors.FatalValueError(
            "`batch_size` was given to the search, and the search space has one too. "
            "Leave it out of `search(...)`, or construct the hypermodel with "
            "`batch_sizes=None`."
        )
    if isinstance(x, tf.data.Dataset):
        return x.rebatch(batch_size), fit_arguments
    if _is_array(x):
        return x, {**fit_arguments, "batch_size": batch_size}
    raise keras_tuner.errors.FatalValueError(
        "The batch size can be searched for arrays and `tf.data.Dataset`s only. "
        f"Received training data of type {type(x)}. Construct the hypermodel with "
        "`batch_sizes=None` to train with the batches as they come."
    )


def _is_array(x: Any) -> bool:
    leaves = keras.tree.flatten(x)
    return all(isinstance(leaf, np.ndarray) or tf.is_tensor(leaf) for leaf in leaves)
