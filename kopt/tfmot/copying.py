from __future__ import annotations

from typing import Any

from kopt._registry import register
from kopt.tfmot import _variables
from kopt.tfmot._checking import any_model


@register("tfmot")
def copy_weights(source: Any, target: Any) -> None:
    """Give a model the weights of its twin in the other Keras, or in the same one.

    Layers are matched by their names where all of them are the same, else by their
    order, at every depth; weights inside a layer likewise. The order in which
    `get_weights` lists them, which the two Keras do not share, plays no part.

    Args:
        source: A built model of Keras 3 or of tf_keras. It is not changed.
        target: A built model of either, with the same layers.

    Raises:
        TypeError: If one of them is not a model.
        ValueError: If one is not built, or layers or shapes do not match. The message
            lists all that do not, and `target` stays as it was.

    Example:
        >>> one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> twin = kopt.tfmot.to_tf_keras(one)
        >>> twin.layers[0].set_weights([np.ones((4, 3)), np.zeros(3)])
        >>> kopt.tfmot.copy_weights(twin, one)
        >>> one(np.ones((1, 4))).numpy()
        array([[4., 4., 4.]], dtype=float32)
    """
    _variables.copy(any_model("source", source), any_model("target", target))
