"""TensorFlow Model Optimization, imported without leaving a trace."""

import os
import warnings
from functools import cache
from types import ModuleType
from unittest import mock


@cache
def tfmot() -> ModuleType:
    """The package. Importing it switches TensorFlow to the older Keras for good."""
    with mock.patch.dict(os.environ), warnings.catch_warnings():
        # It compares versions with what Python has dropped.
        warnings.simplefilter("ignore", DeprecationWarning)
        import tensorflow_model_optimization

    return tensorflow_model_optimization


@cache
def tf_keras() -> ModuleType:
    """The older Keras, which TensorFlow Model Optimization works on."""
    import tf_keras as package

    return package
