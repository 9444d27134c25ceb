"""The verb that makes a SavedModel."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._centroids import centroids_written
from kopt._registry import register
from kopt._signature import Signature, signature_of
from kopt._stateful import own_batch
from kopt.export import _atomic, _samples, _state, _trace
from kopt.export._comparison import differences
from kopt.export._plan import checked_model
from kopt.export.errors import VerificationError
from kopt.export.report import ExportReport

_RUNS = 30


@register("export")
def saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    batch_size: int | None = None,
    verify: Any = True,
) -> ExportReport:
    """Write a model as a SavedModel, load it again and compare it with the model.

    What is loaded needs neither Keras nor kopt: `serve(x)` is called like the model,
    the signature `serving_default` takes and returns tensors by name. The folder is
    written whole or not at all; an earlier SavedModel there stays until the new one
    has passed.

    Args:
        model: A built Keras 3 model, of any kind.
        path: The folder: a new one, an empty one, or an earlier SavedModel.
        batch_size: Samples that it takes at once. None (the default) takes any number,
            as servers want it; `kopt.export.tflite` fixes the batch by itself.
        verify: Whether it is loaded and compared with the model: on these samples if
            it is data (at most 1000), else on random ones.

    Returns:
        An `ExportReport`.

    Raises:
        VerificationError: If it does not compute what the model computes.
        TypeError, ValueError: If an argument is wrong or the model cannot be exported:
            not built, NaN weights, samples of a wrong shape.

    Example:
        >>> import tensorflow as tf
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> report = kopt.export.saved_model(model, "model")
        >>> loaded = tf.saved_model.load("model")
        >>> loaded.serve(tf.ones((5, 8))).shape
        TensorShape([5, 3])
    """
    target = _atomic.folder_target(path, marker="saved_model.pb")
    signature = signature_of(checked_model(model))
    if batch_size is None:
        batch_size = own_batch(model)
    else:
        _state.check_batch(model, _checks.integer("batch_size", batch_size, low=1))
    samples, source = _samples_to_compare(signature, verify)
    with _atomic.whole_folder(target) as draft:
        with centroids_written(model):
            graph = _trace.write_saved_model(signature.with_batch(batch_size), draft)
        report = ExportReport(
            path=target,
            format="saved_model",
            quantization=None,
            size_bytes=sum(f.stat().st_size for f in draft.rglob("*") if f.is_file()),
            inputs={name: spec.dtype.name for name, spec in signature.inputs.items()},
            outputs=graph.outputs,
        )
        if verify is not False:
            serving = _Serving(draft, batch_size, len(next(iter(samples.values()))))
            if graph.state:
                samples = _state.whole_batches(samples, serving.at_once)
            expected = signature.predict(samples, serving.at_once)
            report = replace(
                report,
                samples=len(next(iter(samples.values()))),
                source=source,
                differences=differences(expected, serving.predict(samples), None, {}),
                latency_ms=serving.latency(samples),
                latency_protocol=serving.protocol,
            )
            if not report.verified:
                raise VerificationError(report)
    return report


def _samples_to_compare(
    signature: Signature, verify: Any
) -> tuple[dict[str, np.ndarray], str]:
    if not isinstance(verify, bool):
        own = _samples.named_samples("verify", verify, signature.inputs)
        return own, "samples that were given to compare on"
    table = _samples.smallest_table(signature.model)
    words = _samples.known_words(signature.model)
    found = _samples.random_samples(signature.inputs, {}, table, words=words)
    return found, "random samples"


class _Serving:
    """A SavedModel, called through its signature on batches of the size it takes."""

    def __init__(self, folder: Path, batch_size: int | None, count: int = 32) -> None:
        # The function does not keep the object that owns its variables alive.
        self._loaded = tf.saved_model.load(str(folder))
        self._function = self._loaded.signatures["serving_default"]
        self.batch_size = batch_size
        self.at_once = batch_size or min(count, 32)
        self.protocol = (
            f"median of {_RUNS} runs, batch {batch_size or 1}, TensorFlow's threads"
        )

    def predict(self, samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(samples.values())))
        size = self.at_once
        parts = []
        for start in range(0, count, size):
            # A fixed batch is filled up with the first samples again.
            end = start + size if self.batch_size else min(start + size, count)
            parts.append(self._call(samples, np.arange(start, end) % count))
        return {
            name: np.concatenate([part[name] for part in parts])[:count]
            for name in parts[0]
        }

    def latency(self, samples: Mapping[str, np.ndarray]) -> float:
        """Median time of one call, in milliseconds, after five that are not timed."""
        first = np.arange(self.batch_size or 1) % len(next(iter(samples.values())))
        times = []
        for number in range(_RUNS + 5):
            began = time.perf_counter()
            self._call(samples, first)
            if number >= 5:
                times.append(time.perf_counter() - began)
        return statistics.median(times) * 1000

    def _call(
        self, samples: Mapping[str, np.ndarray], chosen: np.ndarray
    ) -> dict[str, np.ndarray]:
        batch = {name: tf.constant(values[chosen]) for name, values in samples.items()}
        return {name: y.numpy() for name, y in self._function(**batch).items()}
