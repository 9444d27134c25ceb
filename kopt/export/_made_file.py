"""A file from its plan, and what there is to know about the file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kopt.export import _samples, _state, _trace
from kopt.export._comparison import Difference, differences, lost_inside
from kopt.export._conversion import INTEGER_MODES, Settings, convert, is_risky
from kopt.export._output_grid import OutputGrid
from kopt.export._plan import Plan
from kopt.export._slow_parts import slow_parts
from kopt.export._zeros import zeros_of
from kopt.export.interpreter import Interpreter
from kopt.export.report import ExportReport
from kopt.quantization import unrounded

# How often a file is run to time it.
RUNS = 30


def float_file(plan: Plan, isolate: bool | None) -> bytes:
    """The file of the same model without quantization."""
    settings = Settings(batch_size=plan.settings.batch_size)
    plain = replace(
        plan, settings=settings, calibration=None, islands=(), wide_islands=()
    )
    trained = plan.settings.trained_ranges
    with unrounded(plan.model) if trained else contextlib.nullcontext():
        return converted(plain, isolate)[1]


def converted(
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


def examined(plan: Plan, draft: Path, signature: str | None = None) -> ExportReport:
    """What there is to know about a file; its numbers only where `verify` is set.

    Args:
        plan: What was asked for.
        draft: The file.
        signature: Which one of the file is the model's, if it has several.
    """
    file = Interpreter(draft, signature=signature)
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
        latency_ms=file.latency(RUNS, samples),
        latency_protocol=(f"median of {RUNS} runs, batch {file.batch_size}, 1 thread"),
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
