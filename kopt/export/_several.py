"""Several models in one file, each under its own name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from kopt.export import _atomic, _made_file
from kopt.export._comparison import Difference
from kopt.export._examination import examined
from kopt.export._file_contents import read
from kopt.export._merged_file import merged
from kopt.export._order import in_order
from kopt.export._plan import make_plan
from kopt.export._zeros import together
from kopt.export.errors import VerificationError
from kopt.export.kernel_distance import KernelDistance
from kopt.export.report import ExportReport

_DATA = ("representative_data", "verify")


def write(
    models: Mapping[str, keras.Model],
    path: str | os.PathLike[str],
    options: Mapping[str, Any],
    isolate: bool | None,
    beside_float: bool,
) -> ExportReport:
    """`kopt.export.tflite` for a dict of models.

    Args:
        models: The models by the names of their signatures.
        path: Where the file goes.
        options: The arguments of `make_plan`, for all models or by name.
        isolate: See `kopt.export.tflite`.
        beside_float: See there.
    """
    _check_names(models)
    if beside_float:
        raise ValueError(
            "`beside_float` is for a file of one model. Export the models one by one "
            "to see how fast each is beside its float file."
        )
    target = _atomic.file_target(path)
    chosen = {name: _options_of(name, models, options) for name in models}
    plans = {name: make_plan(one, **chosen[name]) for name, one in models.items()}
    files, isolated = {}, False
    for name, plan in plans.items():
        plan, content, _, apart = _made_file.converted(plan, isolate)
        files[name] = in_order(content, list(plan.signature.inputs), plan.outputs)
        plans[name], isolated = plan, isolated or apart
    _check_state(files)
    with _atomic.whole_file(target) as draft:
        draft.write_bytes(merged(files))
        reports = {
            name: replace(examined(plan, draft, name), path=target)
            for name, plan in plans.items()
        }
        for name, report in reports.items():
            if plans[name].verify and not report.verified:
                raise VerificationError(
                    replace(report, differences=_named(name, report))
                )
    return replace(_together(reports), isolated=isolated)


def _check_names(models: Mapping[str, Any]) -> None:
    wrong = [name for name in models if not (isinstance(name, str) and name)]
    if wrong or not models:
        raise ValueError(
            "A dict of models has a name for each, such as {'encode': encoder}. "
            f"Received: {list(models)}."
        )
    for name, model in models.items():
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"`model[{name!r}]` must be a Keras model. Received: {model!r}. To "
                "export a method or a part of a model, make a model of it: `x = "
                "keras.Input(...)`, `keras.Model(x, part(x))`; it shares the weights."
            )


def _options_of(
    name: str, models: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options for one of the models."""
    found = {}
    for option, value in options.items():
        by_name = isinstance(value, Mapping) and set(value) <= set(models)
        given = value is not None and not isinstance(value, bool)
        if option in _DATA and given and not by_name:
            raise ValueError(
                f"`{option}` for several models must be a dict of data by their names "
                f"({', '.join(models)}). Received: "
                f"{list(value) if isinstance(value, Mapping) else type(value)}."
            )
        if not by_name:
            found[option] = value
        elif name in value:
            found[option] = value[name]
    return _DEFAULTS | found


_DEFAULTS: dict[str, Any] = {
    "quantization": None,
    "representative_data": None,
    "io_dtype": None,
    "sparse": False,
    "batch_size": 1,
    "verify": True,
    "float_layers": (),
    "int16_layers": (),
}


def _check_state(files: Mapping[str, bytes]) -> None:
    stateful = [name for name, content in files.items() if read(content).has_state]
    if len(stateful) > 1:
        raise ValueError(
            f"{' and '.join(stateful)} keep state from call to call (`stateful=True`, "
            "or a variable that a layer assigns); in one file their states could not "
            "be told apart. Export these models to files of their own, or hand the "
            "state over as inputs and outputs."
        )


def _together(reports: Mapping[str, ExportReport]) -> ExportReport:
    """One report of a whole file, with those of its signatures."""
    first = next(iter(reports.values()))
    kinds = list(
        dict.fromkeys(one.quantization or "float32" for one in reports.values())
    )
    floats = [one.float_tensors or () for one in reports.values()]
    differences: dict[str, Difference] = {}
    apart: dict[str, KernelDistance] = {}
    for name, report in reports.items():
        differences |= _named(name, report)
        apart |= {f"{name}/{k}": v for k, v in report.kernel_distances.items()}
    return replace(
        first,
        quantization=first.quantization if len(kinds) == 1 else " and ".join(kinds),
        inputs=_by_signature({name: one.inputs for name, one in reports.items()}),
        outputs=_by_signature({name: one.outputs for name, one in reports.items()}),
        float_tensors=tuple(dict.fromkeys(one for own in floats for one in own)),
        samples=sum(one.samples for one in reports.values()),
        differences=differences,
        latency_ms=None,
        kernel_distances=apart,
        zeros=together([one.zeros for one in reports.values()]),
        slow_parts=tuple(part for one in reports.values() for part in one.slow_parts),
        mismatched_grids=tuple(
            f"{name}: {part}"
            for name, one in reports.items()
            for part in one.mismatched_grids
        ),
        signatures=dict(reports),
    )


def _named(name: str, report: ExportReport) -> dict[str, Difference]:
    return {f"{name}/{one}": found for one, found in report.differences.items()}


def _by_signature(entries: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {
        f"{name}/{entry}": dtype
        for name, own in entries.items()
        for entry, dtype in own.items()
    }
