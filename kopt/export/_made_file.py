"""A file from its plan."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

from kopt.export import _trace
from kopt.export._conversion import INTEGER_MODES, Settings, convert, is_risky
from kopt.export._own_biases import with_own_biases
from kopt.export._plan import Plan
from kopt.quantization import unrounded


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
            trained = plan.settings.trained_ranges
            graph = _trace.write_for_converter(plan.signature, folder, trained)
        plan = replace(plan, state=graph.state, outputs=tuple(graph.outputs))
        if isolate is None:
            isolate = is_risky(graph.operations, plan.settings)
        content = convert(folder, plan.settings, plan.calibration, isolate=isolate)
        if plan.settings.quantization in INTEGER_MODES:
            content = with_own_biases(content)
        if not (plan.settings.sparse and plan.verify):
            return plan, content, None, isolate
        settings = replace(plan.settings, sparse=False)
        dense = convert(folder, settings, plan.calibration, isolate=isolate)
        if settings.quantization in INTEGER_MODES:
            dense = with_own_biases(dense)
    return plan, content, dense, isolate
