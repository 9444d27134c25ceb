"""A search, packed so that it can be unpacked in another process.

Large arrays go into one file, which all workers map into their memory: it is there
once, and nobody can write to it.
"""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kopt import _extras

_MAPPED_FROM = 1 << 16
_ALIGNMENT = 64


class ParcelError(TypeError):
    """Something that cannot be sent to a worker."""


def packed(parts: Mapping[str, Any], arrays: Path) -> bytes:
    """Bytes that make the same parts in another process.

    Functions and classes of a script or a notebook go with their code, those of
    modules by their names.

    Args:
        parts: What is sent, by the names under which a user knows it.
        arrays: The file that large arrays are written to.

    Raises:
        ParcelError: If a part cannot be sent; it is named.
    """
    cloudpickle = _extras.load("cloudpickle", "tune")
    places: list[tuple[int, int]] = []
    with arrays.open("wb") as file:

        def take_out(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes < _MAPPED_FROM:
                return True  # It stays in, where it can be written to.
            file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
            places.append((file.tell(), raw.nbytes))
            file.write(raw)
            return False

        sent = {}
        for name, part in {**parts, "custom objects": _custom_objects()}.items():
            before = len(places)
            try:
                body = cloudpickle.dumps(part, protocol=5, buffer_callback=take_out)
            except Exception as error:
                raise ParcelError(_refused(name, part, error)) from error
            sent[name] = (body, places[before:])
        file.write(b"\0")  # A file of no bytes cannot be mapped.
    return pickle.dumps(sent)


def unpacked(parcel: bytes, arrays: Path) -> dict[str, Any]:
    """The parts of a parcel, with their large arrays in the file."""
    with arrays.open("rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    parts = {}
    sent = pickle.loads(parcel)
    # First what the others may need to be loaded.
    for name in ("custom objects", *sent):
        if name in parts:
            continue
        body, places = sent[name]
        buffers = [memory[start : start + size] for start, size in places]
        parts[name] = pickle.Unpickler(io.BytesIO(body), buffers=buffers).load()
        if name == "custom objects":
            _register(parts[name])
    del parts["custom objects"]
    return parts


def _custom_objects() -> dict[str, Any]:
    """What a script has registered with Keras, and its functions have not at hand."""
    registered = keras.saving.get_custom_objects()
    return {
        name: thing
        for name, thing in registered.items()
        if getattr(thing, "__module__", None) == "__main__"
    }


def _register(objects: Mapping[str, Any]) -> None:
    for name, thing in objects.items():
        package, separator, own = name.rpartition(">")
        if separator:
            keras.saving.register_keras_serializable(package, own)(thing)
        else:
            keras.saving.get_custom_objects()[name] = thing


def _refused(name: str, part: Any, error: Exception) -> str:
    advice = {
        "data": "Give a function that makes the data: each worker calls it for itself.",
        "model_or_build": (
            "Make in the build function what it needs, in the place of using a thing "
            "from outside: an open file, a lock, a dataset."
        ),
        "callbacks": "Give a function of the trial that makes the callbacks.",
        "storage": "Give the address of a storage.",
    }.get(name, "Give something that can be pickled, or n_jobs=1.")
    return (
        f"`{name}` ({type(part).__name__}) cannot be sent to a worker: "
        f"{type(error).__name__}: {str(error)[:300]} {advice}"
    )
