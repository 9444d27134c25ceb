from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from kopt import _checks
from kopt._registry import register
from kopt.tfmot import _flow, _tflite
from kopt.tfmot._checking import keras_model
from kopt.tfmot._flow import Selection
from kopt.tfmot._packages import tfmot
from kopt.tfmot.fit import Fit, checked_train
from kopt.tfmot.quantized_file import QuantizedFile
from kopt.tfmot.to_older import to_tf_keras

_COMPARED = 100
_IO_DTYPES = ("float32", "int8", "uint8")


@register("tfmot", serializable=False)
def quantize_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    train: Callable[[Any, list[Any]], None],
    samples: Any = None,
    layers: Selection | None = None,
    io_dtype: str = "float32",
    converters: Mapping[type, Callable[[keras.Layer], Any]] | None = None,
) -> QuantizedFile:
    """Train a Keras 3 model for 8 bits with TensorFlow Model Optimization itself.

    The model goes to tf_keras, TF-MOT puts fake quantization around its layers, `train`
    trains it there, and TensorFlow's converter makes a TFLite file of it, which is run
    and compared with the trained model. The ranges of activations begin at 6 and move
    by a thousandth a step: some hundred steps are needed before they fit.
    `kopt.quantization.quantize_model` calibrates them first.

    Args:
        model: A built sequential or functional Keras 3 model, not nested. It is not
            changed.
        path: Where the file goes. It is written whole or not at all.
        train: `kopt.tfmot.Fit(x, y, loss)`, or a function of a tf_keras model and a
            list of callbacks that trains the model.
        samples: Inputs to compare the file on, an array or a dict of arrays by input.
            None takes 100 of those that a `Fit` trains on, else random numbers.
        layers: The layers to quantize, by name, as layers, or by a function of the
            layer; the others stay float. None is all of them.
        io_dtype: Type of the file's inputs and outputs: `"float32"`, `"int8"` or
            `"uint8"`.
        converters: As for `to_tf_keras`.

    Returns:
        A `QuantizedFile`: the path, the trained model of tf_keras, size, differences.

    Raises:
        UnsupportedLayerError: If layers have no counterpart in tf_keras.
        ValueError: If TF-MOT refuses the model, or an argument is wrong.
        ConversionError: If the converter refuses it, or the file computes something
            else than the model. Nothing is written then.

    References:
        Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", arXiv:1712.05877.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> x = np.random.default_rng(0).normal(size=(320, 8)).astype("float32")
        >>> train = kopt.tfmot.Fit(x, x[:, :3], "mse", epochs=20)
        >>> file = kopt.tfmot.quantize_model(model, "model.tflite", train=train)
        >>> file.float_tensors, kopt.export.Interpreter("model.tflite").predict(x).shape
        ((), (320, 3))
    """
    keras_model("model", model)
    checked_train(train)
    target = _checks.writable_path("path", path).resolve()
    _checks.one_of("io_dtype", io_dtype, _IO_DTYPES)
    twin = to_tf_keras(model, converters)
    compared = _samples(
        twin, train.x if samples is None and isinstance(train, Fit) else samples
    )
    quantized = _quantized(twin, _flow.chosen_names(model, layers))
    train(quantized, [])
    return _tflite.write(quantized, compared, target, io_dtype)


def _quantized(twin: Any, names: set[str] | None) -> Any:
    quantization = tfmot().quantization.keras
    try:
        if names is None:
            return quantization.quantize_model(twin)
        annotated = _flow.wrapped(twin, names, quantization.quantize_annotate_layer)
        return quantization.quantize_apply(annotated)
    except (ValueError, RuntimeError) as error:
        raise _flow.refusal(error) from error


def _samples(twin: Any, given: Any) -> dict[str, np.ndarray]:
    """The samples to compare on, by the names of the model's inputs."""
    names = _tflite.input_names(twin)
    specs = dict(zip(names, keras.tree.flatten(twin.input), strict=True))
    arrays = _arrays(given, names)
    found = {}
    for name, tensor in specs.items():
        shape, dtype = tuple(tensor.shape[1:]), tensor.dtype.as_numpy_dtype
        if None in shape:
            raise ValueError(
                f"`model` must have inputs of a fixed size. Received: {name} of shape "
                f"{shape}."
            )
        if arrays is None:
            values = np.random.default_rng(0).normal(size=(_COMPARED, *shape))
        else:
            values = np.asarray(arrays[name])[:_COMPARED]
            if values.shape[1:] != shape:
                raise ValueError(
                    f"`samples` for {name} must have the shape {(None, *shape)}. "
                    f"Received: {values.shape}."
                )
        found[name] = values.astype(dtype)
    return found


def _arrays(given: Any, names: list[str]) -> dict[str, Any] | None:
    if given is None or hasattr(given, "element_spec") or hasattr(given, "__next__"):
        return None
    if isinstance(given, Mapping) and set(given) == set(names):
        return dict(given)
    parts = (
        keras.tree.flatten(given) if isinstance(given, (list, tuple, dict)) else [given]
    )
    if len(parts) != len(names):
        raise ValueError(
            f"`samples` must have an array for each input ({', '.join(names)}). "
            f"Received {len(parts)}."
        )
    return dict(zip(names, parts, strict=True))
