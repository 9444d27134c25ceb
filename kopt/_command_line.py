"""The commands of `kopt`. Needs typer, from the extra `cli`."""

from __future__ import annotations

import importlib
import inspect
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf
import typer

import kopt
from kopt import _registry

application = typer.Typer(
    name="kopt",
    help="Make Keras 3 models train better, tune them, and make them small.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelPath = Annotated[Path, typer.Argument(help="A .keras file.", exists=True)]
DataPath = Annotated[
    Path | None,
    typer.Option("--data", help="An .npz file with arrays x and y.", exists=True),
]


@application.command()
def version() -> None:
    """Print the versions that matter in a report of a fault."""
    for name, number in (
        ("kopt", kopt.__version__),
        ("keras", keras.__version__),
        ("tensorflow", tf.__version__),
        ("numpy", np.__version__),
        ("python", platform.python_version()),
    ):
        typer.echo(f"{name} {number}")


@application.command("list")
def list_(
    area: Annotated[
        str | None, typer.Argument(help="One area, such as layers. All by default.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table for a README.")
    ] = False,
) -> None:
    """List what kopt offers, by area."""
    areas = _areas()
    if area is not None and area not in areas:
        _stop(f"there is no area {area!r}. There are: {', '.join(areas)}.")
    chosen = [area] if area else areas
    if markdown:
        typer.echo(markdown_table(chosen))
        return
    width = max(len(entry) for name in chosen for entry in _registry.names(name))
    for name in chosen:
        typer.echo(f"kopt.{name}")
        for entry in _registry.names(name):
            summary = _summary(_registry.entry(name, entry))
            typer.echo(f"  {entry:<{width}}  {summary}")


@application.command()
def measure(
    model: Annotated[
        Path, typer.Argument(help="A .keras or .tflite file.", exists=True)
    ],
    data: DataPath = None,
) -> None:
    """Measure a model or a TFLite file: metrics, size, sparsity, latency."""
    typer.echo(kopt.evaluation.measure(model, _pair(data)))


@application.command()
def export(
    model: ModelPath,
    out: Annotated[
        Path, typer.Argument(help="A .tflite file, or a folder for a SavedModel.")
    ],
    quantization: Annotated[
        str | None,
        typer.Option(help="float16, dynamic, int8 or int16x8. TFLite only."),
    ] = None,
    data: DataPath = None,
    io_dtype: Annotated[
        str | None, typer.Option(help="Type of the file's input and output.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Batch of the TFLite file.")] = 1,
) -> None:
    """Export a Keras model to TFLite or a SavedModel, and check the file by running it.

    A TFLite file in int8 or int16x8 needs --data, whose x tells the ranges of the
    activations, unless the model was trained quantization-aware.
    """
    if out.suffix != ".tflite":
        if quantization or io_dtype:
            _stop(f"--quantization and --io-dtype need a .tflite file, not {out}.")
        typer.echo(kopt.export.saved_model(_loaded(model), out))
        return
    pair = _pair(data)
    report = kopt.export.tflite(
        _loaded(model),
        out,
        quantization=quantization,
        representative_data=None if pair is None else pair[0],
        io_dtype=io_dtype,
        batch_size=batch_size,
    )
    typer.echo(report)


def markdown_table(areas: list[str]) -> str:
    """The table of the README: one row an area, with its public names."""
    rows = ["| Area | What it has |", "|---|---|"]
    for area in areas:
        prefix = "kopt" if area == "optimizers" else f"kopt.{area}"
        listed = ", ".join(f"`{name}`" for name in _registry.names(area))
        rows.append(f"| `{prefix}` | {listed} |")
    return "\n".join(rows)


def _areas() -> list[str]:
    # Areas that load on demand enter the registry when they do.
    for name in kopt.__all__:
        importlib.import_module(f"kopt.{name}") if name in kopt._LAZY else None
    return _registry.areas()


def _summary(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n", 1)[0]


def _loaded(path: Path) -> keras.Model:
    # Without its optimizer, whose class may be known only to the script it came from.
    return keras.saving.load_model(path, compile=False)


def _pair(path: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
    if path is None:
        return None
    with np.load(path) as arrays:
        if not {"x", "y"} <= set(arrays):
            _stop(
                f"{path} must have the arrays x and y. It has: "
                f"{', '.join(arrays) or 'nothing'}. Write it with "
                "np.savez(path, x=inputs, y=labels)."
            )
        return arrays["x"], arrays["y"]


def _stop(message: str) -> None:
    typer.echo(f"kopt: {message}", err=True)
    sys.exit(2)
