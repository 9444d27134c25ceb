"""State that is no layer's, saved with the model whose attribute it is.

Keras walks through a model's attributes and saves those that are `KerasSaveable`. The
public classes among these (layers, metrics, losses, optimizers) bring more with them
than a state needs.
"""

from typing import Any

import tensorflow as tf
from keras.src.saving.keras_saveable import KerasSaveable as KerasSaveable


def is_attached_state(thing: Any) -> bool:
    """Whether something is state of kopt's own that hangs on a model, such as masks.

    It is saved with the model by Keras, and by TensorFlow's checkpoints.
    """
    return isinstance(thing, KerasSaveable) and isinstance(thing, tf.Module)
