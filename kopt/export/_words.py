"""Models that look words or numbers up in a table, which TFLite has no integers for."""

from __future__ import annotations

from collections.abc import Set

import keras
import tensorflow as tf

from kopt._signature import Signature

_LAYERS = keras.layers
_TABLES = (
    _LAYERS.StringLookup,
    _LAYERS.IntegerLookup,
    _LAYERS.TextVectorization,
    _LAYERS.Hashing,
)


def check_inputs(signature: Signature) -> None:
    """Refuse a model that takes strings.

    Raises:
        ValueError: If an input is of strings, with the part to export instead.
    """
    words = [n for n, spec in signature.inputs.items() if spec.dtype == tf.string]
    if words:
        raise ValueError(
            f"The input {words[0]!r} is of strings, which TFLite cannot compute with. "
            f"{part_behind(signature.model)}"
        )


def check_operations(model: keras.Model, operations: Set[str]) -> None:
    """Refuse a model that looks numbers up in a table.

    Raises:
        ValueError: If the graph has a table, with the part to export instead.
    """
    if any("Table" in operation for operation in operations):
        raise ValueError(
            f"{model.name!r} looks its input up in a table, which a TFLite file cannot "
            f"hold. {part_behind(model)}"
        )


def part_behind(model: keras.Model) -> str:
    """How to export what comes after the lookups of a model, in words."""
    layers = [one for one in model.layers if isinstance(one, _TABLES)]
    served = "`kopt.export.saved_model` writes the model as it is."
    if not layers:
        return f"Build a model that takes the numbers of the words. {served}"
    named = ", ".join(f"{one.name!r} ({type(one).__name__})" for one in layers)
    starts = [f"model.get_layer({one.name!r}).output" for one in layers]
    inputs = getattr(model, "inputs", None) or ()
    others = [
        f"model.inputs[{number}]"
        for number, tensor in enumerate(inputs)
        if tensor.dtype != "string" and len(inputs) > 1
    ]
    inside = ", ".join([*starts, *others])
    return (
        f"Export the part behind {named}: `part = keras.Model([{inside}], "
        "model.output)`, `kopt.export.tflite(part, ...)`. Call that layer yourself "
        f"and give the file what it returns. {served}"
    )
