from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from kopt._registry import register
from kopt.tfmot import _variables
from kopt.tfmot._checking import tf_keras_model
from kopt.tfmot._newer import Newer
from kopt.tfmot._rebuilding import Rebuilder


@register("tfmot")
def from_tf_keras(
    model: Any, converters: Mapping[type, Callable[[Any], keras.Layer]] | None = None
) -> keras.Model:
    """The twin of a tf_keras model in Keras 3, with the same weights.

    For models that you have in the older Keras, of your own or of others. What
    `to_tf_keras` says of layers, names, sharing and weights holds here too, but a `/`
    in a name becomes `_`. Functions of TensorFlow in the model (`x + y`,
    `tf.nn.relu(x)`, `x[:, 0]` ...) become operations of `keras.ops`.

    Args:
        model: A built sequential or functional model of tf_keras, nested or not.
        converters: What to build for layers that are not Keras's own, or otherwise than
            by default: a function from the layer to a layer of Keras 3, by the layer's
            class. Its weights are copied as well. Defaults to none.

    Returns:
        A `keras.Sequential` or functional `keras.Model`, not compiled.

    Raises:
        UnsupportedLayerError: If layers have no counterpart; it names all of them. A
            layer that the model calls with a fixed `training` has none: Keras 3 does
            not keep that.
        TypeError, ValueError: If `model` is no tf_keras model or is not built.

    Example:
        >>> import tf_keras
        >>> old = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
        >>> model = kopt.tfmot.from_tf_keras(old)
        >>> isinstance(model, keras.Sequential), model.layers[0].units
        (True, 3)
    """
    tf_keras_model("model", model)
    twin: keras.Model = Rebuilder(Newer(), converters).build(model)
    _variables.copy(model, twin)
    return twin
