"""From a model of tf_keras with fake quantization to a TFLite file."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kopt.export import ConversionError, Interpreter
from kopt.tfmot.quantized_file import QuantizedFile

# A file rounds in other places than the model does: one step of the output is no error.
_MEAN_ERROR = 0.1


def write(
    model: Any, samples: Mapping[str, np.ndarray], target: Path, io_dtype: str
) -> QuantizedFile:
    """Convert a model, run the file, and let it take its name if it is right.

    Raises:
        ConversionError: If the converter refuses the model, or the file computes
            something else than the model does.
    """
    content = _converted(model, samples, io_dtype)
    with _draft_of(target) as draft:
        draft.write_bytes(content)
        return _compared(model, samples, draft, target)


def _converted(model: Any, samples: Mapping[str, np.ndarray], io_dtype: str) -> bytes:
    @tf.function(
        input_signature=[
            tf.TensorSpec([1, *values.shape[1:]], values.dtype, name)
            for name, values in samples.items()
        ]
    )
    def serve(*tensors: Any) -> dict[str, Any]:
        return _named(model, _packed(model, tensors))

    with tempfile.TemporaryDirectory(prefix="kopt-") as folder:
        module = tf.Module()
        module.model = model
        tf.saved_model.save(module, folder, signatures=serve)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = tf.as_dtype(io_dtype)
        converter.inference_output_type = tf.as_dtype(io_dtype)
        try:
            with warnings.catch_warnings():
                # About ranges of inputs that it then finds in the graph.
                warnings.simplefilter("ignore")
                content: bytes = converter.convert()
        except Exception as error:
            raise ConversionError(
                f"TensorFlow's TFLite converter refused the model: {error}"
            ) from error
    return content


def _packed(model: Any, tensors: Any) -> Any:
    return tf.nest.pack_sequence_as(model.input, list(tensors))


def _named(model: Any, inputs: Any) -> dict[str, Any]:
    outputs = tf.nest.flatten(model(inputs, training=False))
    return dict(zip(output_names(model), outputs, strict=True))


def input_names(model: Any) -> list[str]:
    """The names of a model's inputs, in its own order."""
    return [str(tensor.name) for tensor in tf.nest.flatten(model.input)]


def output_names(model: Any) -> list[str]:
    """A name for each of a model's outputs, in its own order."""
    structure = model.output
    if isinstance(structure, Mapping):
        return sorted(structure)
    return [f"output_{i}" for i, _ in enumerate(tf.nest.flatten(structure))]


@contextlib.contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """A file beside `target` that takes its name if all goes well."""
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _compared(
    model: Any, samples: Mapping[str, np.ndarray], draft: Path, target: Path
) -> QuantizedFile:
    file = Interpreter(draft)
    received = file.predict(dict(samples))
    if not isinstance(received, Mapping):
        received = {file.outputs[0].name: received}
    tensors = [tf.constant(values) for values in samples.values()]
    expected = {
        name: output.numpy()
        for name, output in _named(model, _packed(model, tensors)).items()
    }
    steps = {tensor.name: file.contents.step(tensor) for tensor in file.outputs}
    errors = {name: np.abs(received[name] - expected[name]) for name in expected}
    wrong = [
        f"{name}: mean difference {error.mean():.3g}, mean output "
        f"{np.abs(expected[name]).mean():.3g}"
        for name, error in errors.items()
        if error.mean() > _MEAN_ERROR * np.abs(expected[name]).mean()
        and error.max() > 1.01 * (steps[name] or 0.0)
    ]
    if wrong:
        raise ConversionError(
            "The TFLite file does not compute what TF-MOT's model computes, and was "
            f"not written: {'; '.join(wrong)}. Train longer, so that the ranges of the "
            "activations settle; `kopt.quantization.quantize_model` calibrates them "
            "before training."
        )
    return QuantizedFile(
        path=target,
        model=model,
        size_bytes=draft.stat().st_size,
        float_tensors=file.contents.float_tensors,
        samples=len(next(iter(samples.values()))),
        max_difference=max(float(error.max()) for error in errors.values()),
        mean_difference=max(float(error.mean()) for error in errors.values()),
        agreement=_agreement(expected, received),
    )


def _agreement(
    expected: Mapping[str, Any], received: Mapping[str, Any]
) -> float | None:
    shares = [
        float(np.mean(values.argmax(-1) == received[name].argmax(-1)))
        for name, values in expected.items()
        if values.ndim > 1 and values.shape[-1] > 1
    ]
    return min(shares) if shares else None
