"""tf_keras and TensorFlow Model Optimization, imported when they are first needed.

Importing TF-MOT sets `TF_USE_LEGACY_KERAS=1`, which would make the older Keras out of
`tf.keras` in this process and out of Keras in every program that is started from it.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import tensorflow as tf

_VARIABLE = "TF_USE_LEGACY_KERAS"


def tf_keras() -> Any:
    """The older Keras, which TF-MOT works on."""
    import tf_keras

    return tf_keras


def tfmot() -> Any:
    """TF-MOT. The environment and `tf.keras` are afterwards what they were before.

    `tf.compat.v2.keras` becomes the older Keras, if nobody has asked for it yet: there
    TF-MOT looks for the recurrent cells that it knows.
    """
    # TensorFlow decides what `tf.keras` is when it is first asked for anything.
    tf.keras.Model  # noqa: B018 - it is the asking that counts
    before = os.environ.get(_VARIABLE)
    try:
        with warnings.catch_warnings():
            # It compares versions with a class that Python has dropped.
            warnings.simplefilter("ignore", DeprecationWarning)
            import tensorflow_model_optimization
    finally:
        os.environ.pop(_VARIABLE, None)
        if before is not None:
            os.environ[_VARIABLE] = before
    return tensorflow_model_optimization
