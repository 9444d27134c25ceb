"""What can be measured: a Keras model or a TFLite file, behind the same questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from kopt import _checks
from kopt._data import Specs
from kopt.evaluation._file_subject import FileSubject
from kopt.evaluation._keras_subject import KerasSubject
from kopt.export import Interpreter


class Subject(Protocol):
    """What a measurement asks. Inputs `x` are arrays in the subject's structure."""

    name: str
    kind: str
    latency_protocol: str

    def specs(self) -> Specs:
        """The inputs by name; empty if they are not known."""

    def predict(self, x: Any, batch_size: int) -> dict[str, np.ndarray]:
        """Outputs by name; a single one is called "output"."""

    def own_metrics(self, x: Any, y: Any, batch_size: int) -> dict[str, float]:
        """Loss and metrics that it was compiled with."""

    def stored(self) -> bytes:
        """What it takes on a disk."""

    def parameters(self) -> int:
        """How many numbers it has learned."""

    def sparsity(self) -> float:
        """The share of zeros in its kernels and embeddings."""

    def latency(self, x: Any, runs: int) -> float | None:
        """Median time of one prediction, in milliseconds."""

    def flops(self, x: Any) -> int | None:
        """Operations of one prediction, in products and convolutions."""


def subject_of(model_or_file: Any) -> Subject:
    """The adapter for a Keras model, a `.keras` file or a `.tflite` file."""
    if not isinstance(model_or_file, (str, os.PathLike)):
        return KerasSubject(_checks.keras_model("model_or_file", model_or_file))
    path = Path(model_or_file)
    if path.suffix == ".tflite":
        return FileSubject(Interpreter(path))
    if path.suffix != ".keras":
        raise ValueError(
            "`model_or_file` must be a Keras model, a .keras file or a .tflite file. "
            f"Received: {str(path)!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return KerasSubject(keras.saving.load_model(path), path)
