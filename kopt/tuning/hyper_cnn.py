"""HyperCNN: a search space of convolutional networks for images."""

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
class HyperCNN(NetworkHyperModel):
    """A search space of small convolutional networks, for any Keras Tuner tuner.

    Stages of convolutions, each with half the resolution and twice the filters of
    the one before, then global average pooling. Nothing in it is bound to an image
    size, so 8 x 8 digits and 224 x 224 photos both work; and every layer of it can be
    pruned, quantized and exported by kopt.

    What `HyperMLP` says holds here too: the whole space is declared before the first
    trial, every trial trains, Hyperband's promotions keep the optimizer's state, and
    an objective like `"val_f1_score"` needs `kopt.tuning.objective`.

    Args:
        input_shape: Height, width and channels of an image.
        classes: Number of classes, for classification. Either this or `targets`.
        targets: Number of values to predict, for regression.
        level: `"small"` searches optimizer, learning rate, batch size, width, depth
            and dropout; `"full"` also schedule, warm-up, weight decay, a kernel
            regularizer, activation, batch normalization, kernel size, convolutions a
            stage and depthwise-separable convolutions.
        optimizers: Names to choose from, of kopt's optimizers or Keras's.
        batch_sizes: Batch sizes to choose from. `None` leaves the batch size to
            `search(...)`. Arrays and `tf.data.Dataset`s can be batched anew.
        widths: Filters of the first stage to choose from.
        depths: Numbers of stages to choose from. Stages past the one at which the
            image is smaller than 4 pixels do not halve it further.
        size_limit: The most parameters that a network may have.
        schedule_epochs: Length of the learning-rate schedule in epochs. Defaults to
            the epochs of each `fit`. With Hyperband give its `max_epochs`.
        loss: Loss for `compile`. Defaults to the usual one for the task.
        metrics: Metrics for `compile`. Defaults to accuracy, or mean absolute error.
        seed: Makes the score of a trial depend on its hyperparameters alone.
        name: A name for this hypermodel.

    Raises:
        ValueError: If an argument is out of range, or if `size_limit` is so low that
            some trial of the space could not be made to fit.

    Example:

    >>> space = kopt.tuning.HyperCNN((28, 28, 1), classes=10, level="full")
    >>> hp = space.space()
    >>> hp.values["width"], hp.values["depth"] = 16, 2
    >>> dense = space.build(hp).count_params()
    >>> hp.values["separable"] = True
    >>> dense, space.build(hp).count_params()
    (16986, 3226)
    """

    architecture_defaults: ClassVar[dict[str, Any]] = {
        "activation": "relu",
        "batch_norm": True,
        "convolutions": 2,
        "dropout": 0.0,
        "kernel_size": 3,
        "separable": False,
    }
    architecture_largest: ClassVar[dict[str, Any]] = {
        **architecture_defaults,
        "convolutions": 3,
        "kernel_size": 5,
    }

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        widths: Sequence[int] = (8, 16, 32, 64),
        depths: Sequence[int] = (1, 2, 3),
        **arguments: Any,
    ):
        if len(tuple(input_shape)) != 3:
            raise ValueError(
                "`input_shape` must be height, width and channels. Received: "
                f"input_shape={input_shape!r}. Give grey images a channel axis: "
                "images[..., None]."
            )
        super().__init__(input_shape, widths=widths, depths=depths, **arguments)

    def declare_architecture(self, hp: keras_tuner.HyperParameters, level: str) -> None:
        hp.Float("dropout", 0.0, 0.5, step=0.1)
        if level == "full":
            hp.Choice("activation", ["relu", "relu6", "silu"])
            hp.Boolean("batch_norm", default=True)
            hp.Choice("kernel_size", [3, 5], ordered=True)
            hp.Choice("convolutions", [1, 2, 3], ordered=True, default=2)
            hp.Boolean("separable")

    def network(self, values: Mapping[str, Any]) -> keras.Model:
        inputs = keras.Input(self.input_shape, name="inputs")
        x, side = inputs, min(self.input_shape[:2])
        for stage in range(values["depth"]):
            for index in range(values["convolutions"]):
                separable = values["separable"] and stage + index > 0
                filters = values["width"] * 2**stage
                x = self._convolution(x, filters, values, separable)
            if side >= 4:
                x, side = keras.layers.MaxPooling2D(2)(x), side // 2
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = Dropout(values["dropout"])(x) if values["dropout"] else x
        return keras.Model(inputs, self.head(x), name=self.name or "cnn")

    def _convolution(
        self, x: Any, filters: int, values: Mapping[str, Any], separable: bool
    ) -> Any:
        kernel_size = values["kernel_size"]
        if separable:
            # As two layers, so that each can be quantized with a range of its own.
            x = keras.layers.DepthwiseConv2D(
                kernel_size, padding="same", use_bias=False
            )(x)
            kernel_size = 1
        x = keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            use_bias=not values["batch_norm"],
            kernel_regularizer=_training.regularizer(values),
        )(x)
        if values["batch_norm"]:
            x = self.batch_norm(x)
        return keras.layers.Activation(values["activation"])(x)
