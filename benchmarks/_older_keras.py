"""TF-MOT and the Keras that it works on, imported without leaving a trace."""

from __future__ import annotations

import os
import warnings
from functools import cache
from types import ModuleType
from unittest import mock

import tensorflow as tf

# Bound first: the import of TF-MOT turns `tf.keras` into tf_keras.
_ = tf.keras


@cache
def tf_mot() -> ModuleType:
    """TensorFlow Model Optimization."""
    # Importing it sets a variable that tells TensorFlow to use the older Keras.
    with mock.patch.dict(os.environ), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization
    return tensorflow_model_optimization


@cache
def tf_keras() -> ModuleType:
    """The older Keras."""
    import tf_keras

    return tf_keras
