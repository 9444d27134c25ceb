from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from kopt._registry import register
from kopt.tfmot import _variables
from kopt.tfmot._checking import keras_model
from kopt.tfmot._older import Older
from kopt.tfmot._rebuilding import Rebuilder


@register("tfmot")
def to_tf_keras(
    model: keras.Model,
    converters: Mapping[type, Callable[[keras.Layer], Any]] | None = None,
) -> Any:
    """The twin of a Keras 3 model in tf_keras, with the same weights.

    Every layer class that both have is taken over with its settings, regularizers and
    constraints; layers and weights that are shared stay shared; layers keep their names
    and what is frozen stays frozen. Operations of `keras.ops` become a layer where
    tf_keras has one, and are carried inside one where it has none. `model` itself stays
    as it is; what the twin learns does not reach it unless `copy_weights` is called.
    Both learn alike, but for the moving variance of `BatchNormalization`, which is that
    of the sample (divided by n - 1) where tf_keras fuses it.

    Args:
        model: A built sequential or functional model of Keras 3, nested or not.
        converters: What to build for layers that are not Keras's own, or otherwise than
            by default: a function from the layer to a layer of tf_keras, by the layer's
            class. Its weights are copied as well. Defaults to none.

    Returns:
        A `tf_keras.Sequential` or `tf_keras.Model`, not compiled. Initializers and the
        state of random numbers do not come along.

    Raises:
        UnsupportedLayerError: If layers have no counterpart; it names all of them.
        TypeError, ValueError: If `model` is no Keras 3 model or is not built.

    Example:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(3, "hard_silu", name="first")]
        ... )
        >>> twin = kopt.tfmot.to_tf_keras(model)
        >>> x = np.ones((1, 4), "float32")
        >>> type(twin).__module__.split(".")[0], twin.layers[0].name
        ('tf_keras', 'first')
        >>> bool(np.allclose(twin(x), model(x), atol=1e-6))
        True
    """
    keras_model("model", model)
    twin = Rebuilder(Older(), converters).build(model)
    _variables.copy(model, twin)
    return twin
