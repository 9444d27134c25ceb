"""HyperMLP: a search space of fully connected networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import keras_tuner

from kopt._registry import register
from kopt.layers import Dropout
from kopt.tuning import _training
from kopt.tuning._network import NetworkHyperModel


@register("tuning", serializable=False)
class HyperMLP(NetworkHyperModel):
    """A search space of fully connected networks, for any Keras Tuner tuner.

    Architecture, regularization, optimizer and batch size are searched together. The
    whole space, batch size included, is declared before the first trial, so that the
    first trial is drawn like the others and `search_space_summary()` is true.

    Every trial trains: where `size_limit` forbids a network, a narrower (then a
    shallower) one takes its place instead of an error; `values(hp)` tells which.
    The optimizer is built with the model, so that Hyperband's promoted trials go on
    with their optimizer's moments instead of with fresh ones.

    Inputs are taken as they come: scale them before the search. Labels are integers
    for `classes` and numbers for `targets`, unless you pass your own `loss`.

    A name like `"val_f1_score"` as a tuner's objective is silently *minimized* by
    Keras Tuner. Write `objective=kopt.tuning.objective("val_f1_score")`.

    Args:
        input_shape: Shape of one sample, without the batch axis. More than one axis
            is flattened.
        classes: Number of classes, for classification. Either this or `targets`.
        targets: Number of values to predict, for regression.
        level: `"small"` searches optimizer, learning rate, batch size, width, depth
            and dropout; `"full"` also schedule, warm-up, weight decay, a kernel
            regularizer, activation, batch normalization and taper.
        optimizers: Names to choose from, of kopt's optimizers or Keras's.
        batch_sizes: Batch sizes to choose from. `None` leaves the batch size to
            `search(...)`. Arrays and `tf.data.Dataset`s can be batched anew.
        widths: Units of the first layer to choose from.
        depths: Numbers of hidden layers to choose from.
        size_limit: The most parameters that a network may have.
        schedule_epochs: Length of the learning-rate schedule in epochs. Defaults to
            the epochs of each `fit`. With Hyperband give its `max_epochs`, so that
            a promoted trial goes on along one curve.
        loss: Loss for `compile`. Defaults to the usual one for the task.
        metrics: Metrics for `compile`. Defaults to accuracy, or mean absolute error.
        seed: Makes the score of a trial depend on its hyperparameters alone, by
            setting the seeds of Python, NumPy and TensorFlow before each model. The
            tuner's own `seed` is for the choice of trials; Keras Tuner takes a 0
            there for no seed at all.
        name: A name for this hypermodel.

    Raises:
        ValueError: If an argument is out of range, or if `size_limit` is so low that
            some trial of the space could not be made to fit.

    Example:

    >>> space = kopt.tuning.HyperMLP((64,), classes=10, size_limit=5_000)
    >>> hp = space.space()
    >>> sorted(hp.values)[:4]
    ['batch_size', 'depth', 'dropout', 'learning_rate_factor']
    >>> hp.values["width"] = 256  # with one layer: 19,210 parameters
    >>> space.values(hp)["width"], space.build(hp).count_params()
    (64, 4810)
    """

    architecture_defaults: ClassVar[dict[str, Any]] = {
        "activation": "relu",
        "batch_norm": False,
        "dropout": 0.0,
        "taper": False,
    }
    architecture_largest: ClassVar[dict[str, Any]] = {
        **architecture_defaults,
        "batch_norm": True,
    }

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        depths: Sequence[int] = (1, 2, 3, 4),
        **arguments: Any,
    ):
        super().__init__(input_shape, widths=widths, depths=depths, **arguments)

    def declare_architecture(self, hp: keras_tuner.HyperParameters, level: str) -> None:
        hp.Float("dropout", 0.0, 0.5, step=0.1)
        if level == "full":
            hp.Choice("activation", ["relu", "gelu", "silu"])
            hp.Boolean("batch_norm")
            hp.Boolean("taper")

    def network(self, values: Mapping[str, Any]) -> keras.Model:
        inputs = keras.Input(self.input_shape, name="inputs")
        x = keras.layers.Flatten()(inputs) if len(self.input_shape) > 1 else inputs
        units = values["width"]
        for _ in range(values["depth"]):
            x = self._hidden(x, units, values)
            units = max(units // 2, self.widths[0]) if values["taper"] else units
        return keras.Model(inputs, self.head(x), name=self.name or "mlp")

    def _hidden(self, x: Any, units: int, values: Mapping[str, Any]) -> Any:
        x = keras.layers.Dense(
            units,
            use_bias=not values["batch_norm"],
            kernel_regularizer=_training.regularizer(values),
        )(x)
        if values["batch_norm"]:
            x = self.batch_norm(x)
        x = keras.layers.Activation(values["activation"])(x)
        return Dropout(values["dropout"])(x) if values["dropout"] else x
