"""A Keras model, as a measurement sees it."""

from __future__ import annotations

import functools
import statistics
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt._data import Specs, specs_of
from kopt._keras.model_state import state_kept
from kopt.evaluation import _arithmetic
from kopt.pruning import sparsity_report


class KerasSubject:
    """Answers for a Keras model, in memory or read from a `.keras` file."""

    kind = "keras"

    def __init__(self, model: keras.Model, path: Path | None = None) -> None:
        self.model = model
        self.path = path
        self.name = path.name if path else model.name
        self.latency_protocol = "batch 1, as a TensorFlow graph on all threads"

    def specs(self) -> Specs:
        return specs_of(self.model)

    def predict(self, x: Any, batch_size: int) -> dict[str, np.ndarray]:
        with state_kept(self.model):
            outputs = self.model.predict(x, batch_size=batch_size, verbose=0)
        if isinstance(outputs, dict):
            return outputs
        flat = keras.tree.flatten(outputs)
        if len(flat) == 1:
            return {"output": flat[0]}
        names = getattr(self.model, "output_names", None)
        names = names or [f"output_{number}" for number in range(len(flat))]
        return dict(zip(names, flat, strict=True))

    def own_metrics(self, x: Any, y: Any, batch_size: int) -> dict[str, float]:
        if not self.model.compiled or self.model.loss is None:
            return {}
        with state_kept(self.model):
            found = self.model.evaluate(
                x, y, batch_size=batch_size, verbose=0, return_dict=True
            )
        return {name: float(value) for name, value in found.items()}

    def stored(self) -> bytes:
        if self.path:
            return self.path.read_bytes()
        arrays = [keras.ops.convert_to_numpy(v.value) for v in self.model.weights]
        return b"".join(array.tobytes() for array in arrays)

    def parameters(self) -> int:
        return int(self.model.count_params())

    def sparsity(self) -> float:
        return sparsity_report(self.model).sparsity

    def latency(self, x: Any, runs: int) -> float | None:
        sample = self._sample(x)
        if sample is None:
            return None
        with state_kept(self.model):
            times = [self._seconds(sample) for _ in range(runs + 5)]
        return statistics.median(times[5:]) * 1000

    def _seconds(self, sample: Any) -> float:
        began = time.perf_counter()
        # The result has to be there before the clock stops.
        keras.tree.map_structure(keras.ops.convert_to_numpy, self._graph(sample))
        return time.perf_counter() - began

    def flops(self, x: Any) -> int | None:
        sample = self._sample(x)
        if sample is None:
            return None
        return _arithmetic.of_graph(self._graph.get_concrete_function(sample).graph)

    @functools.cached_property
    def _graph(self) -> Any:
        return tf.function(lambda x: self.model(x, training=False), autograph=False)

    def _sample(self, x: Any) -> Any:
        """A single sample; zeros where there is no data.

        None if sizes are unknown, or if the model only takes batches of another size.
        """
        tensors = getattr(self.model, "inputs", None) or []
        if any(tensor.shape[0] not in (None, 1) for tensor in tensors):
            return None
        if x is not None:
            first = keras.tree.map_structure(lambda part: part[:1], x)
            return keras.tree.map_structure(_as_input, first)
        if not tensors or any(None in tensor.shape[1:] for tensor in tensors):
            return None
        zeros = [keras.ops.zeros((1, *t.shape[1:]), dtype=t.dtype) for t in tensors]
        if isinstance(self.model, keras.Sequential):
            return zeros[0]
        return keras.tree.pack_sequence_as(self.model.input, zeros)


def _as_input(part: np.ndarray) -> Any:
    """A tensor of the type that `predict` would make of it."""
    if part.dtype == "float64":
        part = part.astype(keras.backend.floatx())
    return keras.ops.convert_to_tensor(part)
