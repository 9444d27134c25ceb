"""The verb that makes a TFLite file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from kopt._registry import register
from kopt.export import _atomic, _made_file, _several, _speed
from kopt.export._examination import RUNS, examined
from kopt.export._order import in_order
from kopt.export._plan import make_plan
from kopt.export.errors import VerificationError
from kopt.export.report import ExportReport


@register("export")
def tflite(
    model: keras.Model | Mapping[str, keras.Model],
    path: str | os.PathLike[str],
    quantization: str | None = None,
    representative_data: Any = None,
    io_dtype: str | None = None,
    sparse: bool = False,
    batch_size: int = 1,
    verify: Any = True,
    *,
    isolate: bool | None = None,
    float_layers: Any = (),
    int16_layers: Any = (),
    beside_float: bool = False,
) -> ExportReport:
    """Write a model as a TFLite file, run the file and compare it with the model.

    The file takes batches of a fixed size, under the names of the model's inputs and
    outputs and in their order. What a layer remembers from call to call
    (`stateful=True`, a variable that it assigns) the file remembers too, from where the
    model is.

    Each output is judged by its places and channels: a part that has too few steps
    left, or whose error stands out, is refused with the layer that makes it. The file
    is written whole or not at all: if anything fails, the comparison included, one that
    was there before stays as it was.

    Args:
        model: A built Keras 3 model, of any kind. A dict of models by name makes one
            file with a signature for each, `{"encode": encoder, "decode": decoder}`,
            in which weights that they share are stored once. Each other argument is
            then the same for all or a dict by these names; data are always such a
            dict. `Interpreter(path, signature="encode")` runs one.
        path: Where the file goes.
        quantization: None keeps float32. "float16" halves the file. "dynamic" stores
            weights in 8 bits and computes in float. "int8" computes in 8-bit integers,
            "int16x8" with 16-bit activations; both need `representative_data`, and
            leave an operation without an integer kernel in float. A
            quantization-aware model exports to int8 from its trained ranges (None
            means that), where data only fills ranges that were not trained.
        representative_data: Samples like those that the model will meet, 100 to 500 of
            them: an array, a dict or list of arrays for several inputs, a
            `tf.data.Dataset`, batched or not, a `keras.utils.PyDataset`, a list of
            batches, or a function that yields batches. At most 1000 are used.
        io_dtype: Type of the float inputs and outputs in the file: "float32" (the
            default), "int8" or "uint8" with int8, "int16" with int16x8.
        sparse: Whether weights with many zeros are stored as sparse tensors: a smaller
            file after pruning. Not every kernel of the runtime takes them together
            with integers. Verified, it is timed beside the dense file, and the report
            says how much smaller and faster it is in each runtime.
        batch_size: Samples that the file takes at once. Defaults to 1. A network with
            `stateful=True` needs the batch that it keeps state for.
        verify: Whether the file is run and compared with the model: on these samples
            if it is data (at most 1000, spread over arrays, the first ones of a
            stream), on 100 of the `representative_data`, else on random samples.
            False writes the file unseen. `kopt.evaluation.compare` takes whole test
            sets.
        isolate: Whether the conversion runs in a process of its own, where a crash of
            the converter is an error and not the end of the program; it costs about
            5 s. None decides by the operations that the model is made of: loops and
            operations that are not known to convert are isolated.
        float_layers: Layers that stay float in a file of "int8", where 8 bits lose too
            much: names or paths (regular expressions), layers, layer classes such as
            `keras.layers.LayerNormalization`. What the converter makes one operation
            with them, a ReLU behind a convolution, stays float too; a tensor between a
            float layer and another is still rounded. The suggestion of
            `kopt.quantization.sensitivity` can be passed on as it is. Not together
            with "uint8" or `sparse`.
        int16_layers: Layers that have activations of 16 bits in a file of "int8",
            named as `float_layers` are: 256 times as fine, where 8 bits lose too much
            and a float unit is missing. The runtime's own kernels compute them, no
            delegate does. Not together with `float_layers`, "uint8" or `sparse`.
        beside_float: Whether the float file is made too, for the report to say how
            much smaller and faster this one is than that, timed in turns. It takes
            another conversion.

    Returns:
        An `ExportReport`: size, float tensors left inside, difference and agreement,
        latency.

    Raises:
        ConversionError: If the converter refuses or crashes, or the file does not run.
        VerificationError: If the file does not compute what the model computes; its
            `report` has the numbers.
        TypeError, ValueError: If an argument is wrong or the model cannot be exported:
            not built, NaN weights, sizes that are not fixed, data of a wrong shape.

    References:
        Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", arXiv:1712.05877.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> x = np.random.default_rng(0).normal(size=(100, 8))
        >>> report = kopt.export.tflite(model, "m.tflite", "int8", x, io_dtype="int8")
        >>> report.float_tensors, list(report.outputs.values()), report.max_lsb < 3
        ((), ['int8'], True)
    """
    if isinstance(model, Mapping):
        options = {
            "quantization": quantization,
            "representative_data": representative_data,
            "io_dtype": io_dtype,
            "sparse": sparse,
            "batch_size": batch_size,
            "verify": verify,
            "float_layers": float_layers,
            "int16_layers": int16_layers,
        }
        return _several.write(model, path, options, isolate, beside_float)
    target = _atomic.file_target(path)
    plan = make_plan(
        model,
        quantization=quantization,
        representative_data=representative_data,
        io_dtype=io_dtype,
        sparse=sparse,
        batch_size=batch_size,
        verify=verify,
        float_layers=float_layers,
        int16_layers=int16_layers,
    )
    plan, content, dense, isolated = _made_file.converted(plan, isolate)
    content = in_order(content, list(plan.signature.inputs), plan.outputs)
    with _atomic.whole_file(target) as draft:
        draft.write_bytes(content)
        report = replace(examined(plan, draft), path=target, isolated=isolated)
        if plan.verify and not report.verified:
            raise VerificationError(report)
    if dense is not None:
        speedups = _speed.speedups(dense, content, RUNS)
        report = replace(report, dense_size_bytes=len(dense), speedups=speedups)
    if beside_float:
        other = _made_file.float_file(plan, isolate)
        speedups = _speed.speedups(other, content, RUNS)
        report = replace(report, float_size_bytes=len(other), float_speedups=speedups)
    return report
