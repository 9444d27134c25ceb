"""Gradients of a model on a batch of its own, beside the training step.

Nothing of the run is touched: statistics, seeds and metrics are put back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kopt import _data
from kopt._keras.layer_tree import with_nested_layers
from kopt._keras.model_state import make_unseeded_generator, read, state_kept
from kopt._keras.training_step import predict_and_lose
from kopt._keras.two_versions import own_variables
from kopt._kernels.axes import kernel_axes


class Kernel(NamedTuple):
    """A kernel of a layer.

    Args:
        layer: The layer's path in the model, with the kernel's name if it has several.
        variable: The kernel.
        unit: The axes that feed one unit; `None` where rows are looked up, most of
            which a batch does not touch.
    """

    layer: str
    variable: keras.Variable
    unit: tuple[int, ...] | None


class Measured(NamedTuple):
    """What a probe found, an array over the kernels of each, but of the loss.

    Args:
        loss: The loss of the probe batch.
        gradients: Norms of the gradients.
        weights: Norms of the weights.
        dead: Shares of units that no sample of the batch has a gradient for.
    """

    loss: float
    gradients: np.ndarray
    weights: np.ndarray
    dead: np.ndarray


def kernels_of(model: keras.Model) -> list[Kernel]:
    """The trainable kernels of a model, in the order of its layers, each once."""
    found: dict[int, Kernel] = {}
    for layer in with_nested_layers(model):
        own = []
        for variable in own_variables(layer):
            if id(variable) in found or not variable.trainable:
                continue
            axes = kernel_axes(layer, variable.name, len(variable.shape))
            if axes is not None:
                own.append((variable, None if axes.rows else axes.within_unit))
        name = layer.path or layer.name
        for variable, unit in own:
            full = name if len(own) == 1 else f"{name}/{variable.name}"
            found[id(variable)] = Kernel(full, variable, unit)
    return list(found.values())


class Probe:
    """Measures the gradients of a model on one batch.

    Args:
        model: A built and compiled model.
        data: Inputs and targets, in any form that `kopt._data.read` takes.
        samples: How many samples are taken at most.
        kernels: The kernels to measure.

    Raises:
        ValueError: If there are no samples.
    """

    def __init__(
        self, model: keras.Model, data: Any, samples: int, kernels: list[Kernel]
    ) -> None:
        specs = _data.specs_of(model)
        read = _data.read("data", data, specs)
        pair = next(_data.in_batches(read, samples, specs), None)
        if pair is None:
            raise ValueError(
                "`data` has no samples to measure gradients on. Give inputs and "
                "targets: data=(x[:32], y[:32])."
            )
        inputs = _data.inputs_alone(pair.x, specs)
        self._x, self._y = (_first_of(one, samples) for one in (inputs, pair.y))
        self._model = model
        self._kernels = kernels
        make_unseeded_generator()
        self._function = tf.function(self._measure)

    def measure(self) -> Measured:
        """The present gradients."""
        numbers = self._function().numpy()
        return Measured(float(numbers[0, 0]), *numbers[1:])

    def _measure(self) -> tf.Tensor:
        model = self._model
        weights = [kernel.variable for kernel in self._kernels]
        scale = model.optimizer.scale_loss(tf.constant(1.0))
        with state_kept(model):
            with tf.GradientTape() as tape:
                _, loss = predict_and_lose(model, self._x, self._y, None)
                scaled = model.optimizer.scale_loss(loss)
            found = tape.gradient(scaled, [weight.value for weight in weights])
        rows = [
            [loss, norm, _norm(weight), dead]
            for weight, (norm, dead) in zip(
                weights, map(_of_gradient, found, self._kernels), strict=True
            )
        ]
        columns = tf.transpose([[tf.cast(one, tf.float64) for one in r] for r in rows])
        scales = tf.cast(tf.stack([1.0, scale, 1.0, 1.0]), tf.float64)
        return columns / scales[:, tf.newaxis]


def copies(kernels: list[Kernel]) -> list[tf.Tensor]:
    """The present values of kernels, which later assignments leave alone."""
    return [read(kernel.variable) for kernel in kernels]


def distances(kernels: list[Kernel], before: list[tf.Tensor]) -> np.ndarray:
    """The norms of what has changed since."""
    return np.array(
        [
            float(
                _norm(
                    tf.cast(kernel.variable.value, "float32") - tf.cast(old, "float32")
                )
            )
            for kernel, old in zip(kernels, before, strict=True)
        ]
    )


def _of_gradient(gradient: Any, kernel: Kernel) -> tuple[Any, Any]:
    """The norm of a gradient, and the share of units without one."""
    if gradient is None:
        return tf.constant(0.0), tf.constant(0.0)
    if isinstance(gradient, tf.IndexedSlices):
        return _norm(gradient.values), tf.constant(0.0)
    if kernel.unit is None:
        return _norm(gradient), tf.constant(0.0)
    largest = tf.reduce_max(tf.abs(gradient), axis=list(kernel.unit))
    return _norm(gradient), tf.reduce_mean(tf.cast(largest == 0, tf.float32))


def _norm(values: Any) -> Any:
    return tf.sqrt(
        2.0 * tf.cast(tf.nn.l2_loss(tf.convert_to_tensor(values)), "float64")
    )


def _first_of(structure: Any, samples: int) -> Any:
    if structure is None:
        return None
    return keras.tree.map_structure(
        lambda leaf: tf.convert_to_tensor(leaf[:samples]), structure
    )
