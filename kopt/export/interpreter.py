"""Predictions from a TFLite file."""

from __future__ import annotations

import functools
import os
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kopt import _checks
from kopt._registry import register
from kopt.export import _file_contents
from kopt.export._file_contents import FileContents, Tensor
from kopt.export.errors import ConversionError

# What the runtime calls its kernels.
KERNELS = {
    "xnnpack": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


@register("export", serializable=False)
class Interpreter:
    """A TFLite file that predicts on batches, as a Keras model does.

    Floats go in and floats come out, whatever integers the file works with: inputs are
    quantized and outputs dequantized with the file's own parameters. The file's fixed
    batch is looped over, the last one filled up and cut again. LiteRT
    (`ai_edge_litert`) runs the file; where it is not installed, `tf.lite` does.

    Args:
        path: The `.tflite` file.
        num_threads: Threads that the runtime uses. Defaults to 1.
        signature: What to run, of a file that holds several models, such as "encode".
        kernels: What computes: "xnnpack", the delegate, and the built-in kernels for
            what it does not take; "builtin", these alone; "reference", plain loops, a
            hundred times as slow. Integers may differ by a step at each operation.
            Defaults to "xnnpack", as in the runtime.

    Attributes:
        signatures: The names of the file's signatures.
        inputs: A `Tensor` for each input: its name, shape, dtype, scales, zero points.
        outputs: The same for each output.
        tensors: The same for every tensor in the file; constants have their `data`.
        contents: Tensors and operations as the file stores them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated or no TFLite file, or has no such
            signature, or there are no such kernels.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> report = kopt.export.tflite(model, "model.tflite")
        >>> file = kopt.export.Interpreter("model.tflite")
        >>> x = np.ones((10, 4), "float32")
        >>> bool(np.allclose(file.predict(x), model(x), atol=1e-5))
        True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_threads: int = 1,
        signature: str | None = None,
        kernels: str = "xnnpack",
    ) -> None:
        self.path = Path(path)
        self.kernels = _checks.one_of("kernels", kernels, tuple(KERNELS))
        self.num_threads = _checks.integer("num_threads", num_threads, low=1)
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r}.")
        self._content = self.path.read_bytes()
        self.reset_state()
        self.signatures = _file_contents.signature_keys(self._content)
        self.signature = signature
        if signature is not None:
            _checks.one_of("signature", signature, self.signatures)
        self.contents: FileContents = _file_contents.read(
            self._content, signature=signature
        )

    # What a file holds can be read even if no runtime can set it up.

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.contents.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self.contents.outputs

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.contents.tensors

    @property
    def batch_size(self) -> int:
        """How many samples the file takes at once."""
        shape = self.inputs[0].shape
        return shape[0] if shape else 1

    def reset_state(self) -> None:
        """Forget what runs have left behind: the state is again what the file holds.

        A file of a model with `stateful=True`, or with a layer that assigns a variable,
        keeps its state from one run to the next. A file of any other has none.
        """
        self._runtime = _runtime(
            self._content, self.path, self.num_threads, KERNELS[self.kernels]
        )
        self._ready = False

    def predict(
        self,
        x: np.ndarray | Mapping[str, np.ndarray] | Sequence[np.ndarray],
        *,
        dequantize: bool = True,
    ) -> Any:
        """The outputs for any number of samples.

        Args:
            x: An array of samples; for several inputs a dict of arrays by name, or a
                list in the file's order, which is the model's in files of
                `kopt.export.tflite`. Floats are quantized where the file takes
                integers; arrays that already have the file's integer type go in as
                they are.
            dequantize: Whether integer outputs come back as the floats they stand for.

        Returns:
            An array; for several outputs a dict of arrays by name.

        Raises:
            ValueError: If inputs are missing or have other shapes than the file's.
            ConversionError: If the runtime lacks a kernel that the file asks for.
        """
        arrays = self._prepared(x)
        count = len(arrays[0])
        if self.contents.has_state and count % self.batch_size:
            raise ValueError(
                f"{self.path.name} keeps state for batches of {self.batch_size}: give "
                f"a multiple of {self.batch_size} samples. Received: {count}."
            )
        parts = [
            self._run([_slice(array, start, self.batch_size) for array in arrays])
            for start in range(0, count, self.batch_size)
        ]
        results = {}
        for position, tensor in enumerate(self.outputs):
            values = np.concatenate([part[position] for part in parts])[:count]
            real = dequantize and tensor.is_quantized
            results[tensor.name] = tensor.dequantize(values) if real else values
        return results if len(results) > 1 else next(iter(results.values()))

    def latency(self, runs: int = 30, x: Any = None) -> float:
        """Median time of one run on one batch, in milliseconds; the state is kept.

        Args:
            runs: How many runs are timed, after five that are not. Defaults to 30.
            x: Samples, of which the first batch is taken; None takes zeros.

        Raises:
            ConversionError: If the runtime cannot run the file on these values.
        """
        if self.contents.has_state:
            again = Interpreter(
                self.path,
                num_threads=self.num_threads,
                signature=self.signature,
                kernels=self.kernels,
            )
            return again._timed(runs, x)
        return self._timed(runs, x)

    def _timed(self, runs: int, x: Any) -> float:
        arrays = self._zeros()
        if x is not None:
            arrays = [_slice(one, 0, self.batch_size) for one in self._prepared(x)]
        self._run(arrays)
        again = self._runtime.invoke
        if self.signature is not None:
            again = functools.partial(self._runner, **self._by_name(arrays))
        times = []
        for number in range(_checks.integer("runs", runs, low=1) + 5):
            began = time.perf_counter()
            again()
            if number >= 5:
                times.append(time.perf_counter() - began)
        return statistics.median(times) * 1000

    def run_zeros(self) -> None:
        """Run the file once, on zeros."""
        self._run(self._zeros())

    def _zeros(self) -> list[np.ndarray]:
        return [np.zeros(tensor.shape, tensor.dtype) for tensor in self.inputs]

    def _by_name(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        names = [tensor.name for tensor in self.inputs]
        return dict(zip(names, arrays, strict=True))

    def _set_up(self) -> None:
        """Give the tensors memory: the first time that a file can prove unusable."""
        if self._ready:
            return
        if self.signature is None and len(self.signatures) > 1:
            raise ValueError(
                f"{self.path.name} holds several models. Say which one to run: "
                f"signature={self.signatures[0]!r}, say. It has: "
                f"{', '.join(self.signatures)}."
            )
        try:
            if self.signature is None:
                self._runtime.allocate_tensors()
            else:
                self._runner = self._runtime.get_signature_runner(self.signature)
        except (RuntimeError, ValueError) as error:
            raise ConversionError(
                f"The runtime cannot set the file up: {str(error).rstrip('.')}. Its "
                "kernels do not have every combination of options: leave out `sparse`, "
                "or use another `quantization`. Nor do they take a grid hundreds of "
                "times as fine as that of what it is computed from: look for a range "
                "that is far too narrow (`kopt.quantization.quantization_report`)."
            ) from error
        self._ready = True

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        self._set_up()
        try:
            if self.signature is not None:
                found = self._runner(**self._by_name(arrays))
                return [found[tensor.name] for tensor in self.outputs]
            for tensor, array in zip(self.inputs, arrays, strict=True):
                self._runtime.set_tensor(tensor.index, array)
            self._runtime.invoke()
        except (RuntimeError, ValueError) as error:
            raise ConversionError(
                f"The runtime cannot run the file on these values: "
                f"{str(error).rstrip('.')}. A division by zero in integers is the "
                "usual cause, as in the average of a text of padding alone: leave such "
                "samples out, or keep that layer float (`float_layers`)."
            ) from error
        return [self._runtime.get_tensor(tensor.index) for tensor in self.outputs]

    def _prepared(self, x: Any) -> list[np.ndarray]:
        names = [tensor.name for tensor in self.inputs]
        if not isinstance(x, Mapping):
            parts = list(x) if isinstance(x, (list, tuple)) else [x]
            if len(names) == 1 and len(parts) != 1:
                parts = [np.asarray(x)]
            if len(parts) != len(names):
                raise ValueError(
                    f"{self.path.name} has {len(names)} inputs. Give a list of as many "
                    f"arrays, in the order {', '.join(names)}, or a dict with these "
                    f"keys. Received: {len(parts)}."
                )
            x = dict(zip(names, parts, strict=True))
        if set(x) != set(names):
            raise ValueError(
                f"{self.path.name} takes the inputs {', '.join(names)}. Received: "
                f"{', '.join(map(str, x))}."
            )
        arrays = [
            _fitting(tensor, np.asarray(x[tensor.name])) for tensor in self.inputs
        ]
        if len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
            raise ValueError(
                "Every input must have the same number of samples, and at least one. "
                f"Received: {[len(array) for array in arrays]}."
            )
        return arrays


def _fitting(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Samples in the type that the file takes, after a check of their shape."""
    if values.ndim != len(tensor.shape) or values.shape[1:] != tensor.shape[1:]:
        shown = ", ".join(str(size) for size in tensor.shape[1:])
        raise ValueError(
            f"The input {tensor.name!r} must have the shape (samples, {shown}). "
            f"Received: {values.shape}."
        )
    if tensor.is_quantized and values.dtype != tensor.dtype:
        return tensor.quantize(values)
    return values.astype(tensor.dtype)


def _slice(array: np.ndarray, start: int, size: int) -> np.ndarray:
    """One batch, filled up with the last sample where samples run out."""
    part = array[start : start + size]
    missing = size - len(part)
    return (
        np.concatenate([part, part[-1:].repeat(missing, axis=0)]) if missing else part
    )


def _runtime(content: bytes, path: Path, num_threads: int, resolver: str) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter as Runtime
        from ai_edge_litert.interpreter import OpResolverType
    except ImportError:
        import tensorflow as tf

        Runtime = tf.lite.Interpreter
        OpResolverType = tf.lite.experimental.OpResolverType
    try:
        with warnings.catch_warnings():
            # tf.lite says that it moves to LiteRT, which is what was tried first.
            warnings.simplefilter("ignore")
            return Runtime(
                model_content=content,
                num_threads=num_threads,
                experimental_op_resolver_type=OpResolverType[resolver],
            )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{str(path)!r} is no whole TFLite file ({len(content)} bytes): {error}. "
            "It may have been truncated; export it again."
        ) from error
