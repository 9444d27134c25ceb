"""A file that was made: run, read back and compared with its model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kopt.export import _samples, _state
from kopt.export._advice import wrong_parts
from kopt.export._common_grids import off_plan, several_grids
from kopt.export._comparison import Difference, differences, lost_inside
from kopt.export._conversion import INTEGER_MODES
from kopt.export._output_grid import OutputGrid
from kopt.export._plan import Plan
from kopt.export._slow_parts import slow_parts
from kopt.export._zeros import zeros_of
from kopt.export.interpreter import Interpreter
from kopt.export.kernel_distance import (
    CLOSE_CHOICES,
    CLOSE_LSB,
    KernelDistance,
    beside_kernels,
    kernel_distances,
)
from kopt.export.report import ExportReport
from kopt.quantization import grids_of_joins

# How often a file is run to be timed.
RUNS = 30


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
        mismatched_grids=_mismatched_grids(plan, file),
    )
    if not plan.verify:
        if report.mismatched_grids:
            warnings.warn(wrong_parts(report), stacklevel=3)
        return report
    samples, source = plan.comparison, plan.source
    random = samples is None
    if samples is None:
        samples, source = _random_samples(plan, file), "random samples"
    if plan.state or len(next(iter(samples.values()))) >= file.batch_size:
        samples = _state.whole_batches(samples, plan.settings.batch_size)
    received = file.predict(samples)
    if len(file.outputs) == 1:
        received = {file.outputs[0].name: received}
    differences = _compared(plan, file, samples, received, not random)
    apart = _kernels_apart(plan, file, samples, differences)
    return replace(
        report,
        samples=len(next(iter(samples.values()))),
        source=source,
        differences={
            name: beside_kernels(found, apart.get(name))
            for name, found in differences.items()
        },
        kernel_distances=apart,
        latency_ms=file.latency(RUNS, samples),
        latency_protocol=(f"median of {RUNS} runs, batch {file.batch_size}, 1 thread"),
    )


def _mismatched_grids(plan: Plan, file: Interpreter) -> tuple[str, ...]:
    """Where the file has two grids for one, by itself or beside the model's plan."""
    planned = {}
    if plan.settings.trained_ranges:
        grids = grids_of_joins(plan.model)
        planned = {name: grid.scale for name, grid in grids.items()}
    contents = file.contents
    return several_grids(contents) + off_plan(contents, planned)


def _compared(
    plan: Plan,
    file: Interpreter,
    samples: Mapping[str, np.ndarray],
    received: Mapping[str, np.ndarray],
    representative: bool,
) -> dict[str, Difference]:
    """The file beside the model, and a model that rounds beside itself in float."""
    grids = {
        tensor.name: OutputGrid(file.contents, tensor, representative)
        for tensor in file.outputs
    }
    expected, exact = plan.expected(samples), plan.unrounded(samples)
    found = differences(expected, received, plan.mode, grids)
    for name, values in (exact or {}).items():
        own = lost_inside(values, expected[name], grids.get(name))
        passed = found[name].passed and not own
        places = {(part.axis, part.places) for part in own}
        others = [
            part for part in found[name].parts if (part.axis, part.places) not in places
        ]
        parts = (*own, *others)
        found[name] = replace(found[name], passed=passed, parts=parts)
    return {name: _with_layers(one, grids[name], plan) for name, one in found.items()}


def _kernels_apart(
    plan: Plan,
    file: Interpreter,
    samples: Mapping[str, np.ndarray],
    differences: Mapping[str, Difference],
) -> dict[str, KernelDistance]:
    """How far kernels are apart, where the model is not close to the file."""
    rounds = plan.settings.trained_ranges and not plan.state
    if not rounds or all(_is_close(found) for found in differences.values()):
        return {}
    return kernel_distances(file, plan, samples)


def _is_close(found: Difference) -> bool:
    near = found.max_lsb is None or found.max_lsb <= CLOSE_LSB
    return near and (found.agreement is None or found.agreement >= CLOSE_CHOICES)


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
