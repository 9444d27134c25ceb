"""The verb that makes a TFLite file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kopt._registry import register
from kopt.export import _atomic, _samples, _speed, _state, _trace
from kopt.export._comparison import Difference, differences, lost_inside
from kopt.export._conversion import INTEGER_MODES, Settings, convert, is_risky
from kopt.export._order import in_order
from kopt.export._output_grid import OutputGrid
from kopt.export._plan import Plan, make_plan
from kopt.export._slow_parts import slow_parts
from kopt.export._zeros import zeros_of
from kopt.export.errors import VerificationError
from kopt.export.interpreter import Interpreter
from kopt.export.report import ExportReport
from kopt.quantization import unrounded

_RUNS = 30


@register("export")
def tflite(
    model: keras.Model,
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
        model: A built Keras 3 model, of any kind.
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
    )
    plan, content, dense, isolated = _converted(plan, isolate)
    content = in_order(content, list(plan.signature.inputs), plan.outputs)
    with _atomic.whole_file(target) as draft:
        draft.write_bytes(content)
        report = replace(_examined(plan, draft), path=target, isolated=isolated)
        if plan.verify and not report.verified:
            raise VerificationError(report)
    if dense is not None:
        speedups = _speed.speedups(dense, content, _RUNS)
        report = replace(report, dense_size_bytes=len(dense), speedups=speedups)
    if beside_float:
        other = _float_file(plan, isolate)
        speedups = _speed.speedups(other, content, _RUNS)
        report = replace(report, float_size_bytes=len(other), float_speedups=speedups)
    return report


def _float_file(plan: Plan, isolate: bool | None) -> bytes:
    """The file of the same model without quantization."""
    settings = Settings(batch_size=plan.settings.batch_size)
    plain = replace(plan, settings=settings, calibration=None, islands=())
    trained = plan.settings.trained_ranges
    with unrounded(plan.model) if trained else contextlib.nullcontext():
        return _converted(plain, isolate)[1]


def _converted(
    plan: Plan, isolate: bool | None
) -> tuple[Plan, bytes, bytes | None, bool]:
    """The bytes of the file, those of the dense one, and whether in another process.

    The dense one is made where a sparse file is to be compared with it. The plan comes
    back with what the trace has shown that the model remembers.
    """
    with tempfile.TemporaryDirectory(prefix="kopt-") as scratch:
        folder = Path(scratch) / "saved_model"
        with plan.model_for_trace():
            graph = _trace.write_for_converter(plan.signature, folder)
        plan = replace(plan, state=graph.state, outputs=tuple(graph.outputs))
        if isolate is None:
            isolate = is_risky(graph.operations, plan.settings)
        content = convert(folder, plan.settings, plan.calibration, isolate=isolate)
        if not (plan.settings.sparse and plan.verify):
            return plan, content, None, isolate
        settings = replace(plan.settings, sparse=False)
        dense = convert(folder, settings, plan.calibration, isolate=isolate)
    return plan, content, dense, isolate


def _examined(plan: Plan, draft: Path) -> ExportReport:
    """What there is to know about the file; its numbers only where `verify` is set."""
    file = Interpreter(draft)
    size = draft.stat().st_size
    integers = plan.settings.quantization in INTEGER_MODES
    report = ExportReport(
        path=draft,
        format="tflite",
        quantization=plan.settings.quantization,
        size_bytes=size,
        slow_parts=slow_parts(file.contents, plan.model, size) if integers else (),
        inputs={tensor.name: tensor.dtype for tensor in file.inputs},
        outputs={tensor.name: tensor.dtype for tensor in file.outputs},
        float_tensors=file.contents.float_tensors,
        float_layers=plan.float_layers,
        zeros=zeros_of(file.contents, draft.read_bytes()),
        quantization_aware=plan.settings.trained_ranges,
    )
    if not plan.verify:
        return report
    samples, source = plan.comparison, plan.source
    if samples is None:
        samples, source = _random_samples(plan, file), "random samples"
    if plan.state:
        samples = _state.whole_batches(samples, plan.settings.batch_size)
    received = file.predict(samples)
    if len(file.outputs) == 1:
        received = {file.outputs[0].name: received}
    return replace(
        report,
        samples=len(next(iter(samples.values()))),
        source=source,
        differences=_compared(plan, file, samples, received),
        latency_ms=file.latency(_RUNS, samples),
        latency_protocol=(f"median of {_RUNS} runs, batch {file.batch_size}, 1 thread"),
    )


def _compared(
    plan: Plan,
    file: Interpreter,
    samples: Mapping[str, np.ndarray],
    received: Mapping[str, np.ndarray],
) -> dict[str, Difference]:
    """The file beside the model, and a model that rounds beside itself in float."""
    grids = {tensor.name: OutputGrid(file.contents, tensor) for tensor in file.outputs}
    expected, exact = plan.expected(samples), plan.unrounded(samples)
    found = differences(expected, received, plan.mode, grids)
    for name, values in (exact or {}).items():
        own = lost_inside(values, expected[name], grids.get(name))
        passed = found[name].passed and not own
        parts = (*own, *found[name].parts)
        found[name] = replace(found[name], passed=passed, parts=parts)
    return {name: _with_layers(one, grids[name], plan) for name, one in found.items()}


def _with_layers(found: Difference, grid: OutputGrid, plan: Plan) -> Difference:
    """The same difference, with the layers that make the parts named."""
    parts = [
        replace(part, layer=grid.layer(plan.model, part.axis, (*part.places, 0)[0]))
        for part in found.parts
    ]
    return replace(found, parts=tuple(parts))


def _random_samples(plan: Plan, file: Interpreter) -> dict[str, Any]:
    ranges = {tensor.name: file.contents.real_range(tensor) for tensor in file.inputs}
    return _samples.random_samples(
        plan.signature.inputs,
        {name: found for name, found in ranges.items() if found is not None},
        _samples.smallest_table(plan.model),
    )
