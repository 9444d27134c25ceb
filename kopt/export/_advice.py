"""What helps where a file is not what the model is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kopt._parts import Part

if TYPE_CHECKING:
    from kopt.export.report import ExportReport


def wrong_parts(report: ExportReport) -> str:
    """What is wrong with each output that is not within its limit."""
    described = []
    for name, found in report.differences.items():
        if found.passed:
            continue
        numbers = f"{name}: max {found.max:.3g}, mean {found.mean:.3g}"
        parts = "; ".join(f"{part.kind}, {part}" for part in found.faults[:3])
        allowed = f"allowed {found.limit}"
        described.append(", ".join(filter(None, [numbers, parts, allowed])))
    described += [f"on several grids: {one}" for one in report.mismatched_grids]
    return "; ".join(described)


def advice(report: ExportReport) -> str:
    """What to try, for the parts that are wrong and the kind of export."""
    faults = [part for found in report.differences.values() for part in found.faults]
    found = [_for_part(part, report) for part in faults if part.kind in _BY_KIND]
    found += [_SEVERAL_GRIDS] if report.mismatched_grids else []
    return " ".join(dict.fromkeys([*found, _in_general(report)]))


_ONE_GRID = (
    "One grid serves all of an output, and {where} {are} about {ratio:,.0f} times "
    "smaller than the rest: bring both to one scale in the model (boxes in pixels "
    "to 0..1, say, and multiply behind the file), compute {where} in a layer "
    "with an output of {own}, or keep the layers that make the output float ({float})."
)
_WIDE_GRID = (
    "The output has the grid of a much larger tensor that it was joined with or taken "
    "from: compute it in a layer of its own and return that, or bring both to one "
    "scale in the model."
)
_SEVERAL_GRIDS = (
    "The converter gave an operation that copies or compares integers other grids than "
    "it needs: keep the layer that it is named after float (`float_layers`), or take "
    "the operation out of the model."
)
_BY_KIND = {
    "lost": _ONE_GRID,
    "coarse": _ONE_GRID,
    "outstanding": (
        "The error of {where} stands out: look at what sets it apart (a mask, "
        "padding, a first state). It may come from layers further in front: "
        "`kopt.quantization.sensitivity(model, data).suggestion()` of a quantized copy "
        "names those to keep float together ({several})."
    ),
    "cut off": (
        "The data that chose the ranges do not reach what {where} {goes} through: take "
        "samples that do."
    ),
    "constant": (
        "An output of one value says that a range inside cuts everything off, or that "
        "its grid is too coarse: `kopt.quantization.quantization_report(model, data)` "
        "of a quantized copy shows where."
    ),
}


def _for_part(part: Part, report: ExportReport) -> str:
    several = len(part.places) > 1
    advice = _BY_KIND[part.kind]
    if part.kind == "coarse" and part.axis is None:
        advice = _WIDE_GRID
    form = "`float_layers=[{}]`"
    if report.quantization_aware:
        form = "`kopt.quantization.Int8(float_layers=[{}])`"
    return advice.format(
        where=part.where,
        are="are" if several else "is",
        own="their own" if several else "its own",
        goes="go" if several else "goes",
        ratio=part.ratio or 1.0,
        float=form.format(f'"{part.layer}"' if part.layer else "..."),
        several=form.format("..."),
    )


def _in_general(report: ExportReport) -> str:
    if report.quantization in (None, "float16"):
        return (
            "Nothing is rounded to integers here, so an operation of the file computes "
            "something else: export parts of the model to find it."
        )
    if report.quantization_aware:
        return (
            "Calibrate the model on data that covers what it will meet "
            "(`kopt.quantization.calibrate`), train it some steps more, or find the "
            "layers that 8 bits do not suit with `kopt.quantization.sensitivity` and "
            "quantize again with `Int8(float_layers=...)`."
        )
    return (
        "Where values are rounded to integers, give `representative_data` that covers "
        "what the model will meet, quantize the model first with "
        "`kopt.quantization.quantize_model` and such data as `calibration_data`, or "
        "use another `quantization`."
    )
