"""Make Keras 3 models train better, tune them, and make them small."""

import importlib
from typing import Any

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "kopt runs on Keras's TensorFlow backend. Keras is set to "
        f"{keras.backend.backend()!r}. Set the environment variable "
        "KERAS_BACKEND=tensorflow before Keras is imported."
    )

from kopt import (
    adapters,
    callbacks,
    clustering,
    layers,
    optimizers,
    pruning,
    quantization,
    regularizers,
    schedules,
    sharpness,
)
from kopt._version import __version__
from kopt.adapters import *  # noqa: F403 - likewise
from kopt.optimizers import *  # noqa: F403 - the area's registry is the one list
from kopt.sharpness import *  # noqa: F403 - likewise

_LAZY = ("evaluation", "export", "tfmot", "tuning")

__all__ = [
    *adapters.__all__,
    *optimizers.__all__,
    *sharpness.__all__,
    *_LAZY,
    "__version__",
    "adapters",
    "callbacks",
    "clustering",
    "layers",
    "optimizers",
    "pruning",
    "quantization",
    "regularizers",
    "schedules",
    "sharpness",
]


def __getattr__(name: str) -> Any:
    # These areas load packages that cost time (Keras Tuner, the TFLite runtime).
    if name in _LAZY:
        return importlib.import_module(f"kopt.{name}")
    raise AttributeError(f"module 'kopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
