"""Values and arrays in one file, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_TREE = "tree"
_ENDING = ".draft"


def write(path: Path, tree: Any) -> None:
    """Put a tree into a file, in the place of what it holds.

    The file has the old content or the new one, at any moment and after any end of the
    process or the machine.

    Args:
        path: The file, in a folder that exists.
        tree: Numbers, text, booleans, None, arrays, and lists and dicts of these. Keys
            are text; tuples come back as lists.

    Raises:
        TypeError: If something else is in the tree.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_packed(tree, arrays, "state"))
    arrays[_TREE] = np.frombuffer(text.encode(), "uint8")
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{_ENDING}")
    try:
        with draft.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def read(path: Path) -> Any:
    """The tree in a file.

    Raises:
        ValueError: If the file is not one of these, or not whole.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return _unpacked(json.loads(found[_TREE].tobytes()), found)
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{str(path)!r} is no whole backup ({error}). Something else wrote there, "
            "or the disk lost it. Delete the file to start the run anew."
        ) from error


def clear_drafts(path: Path) -> None:
    """Take away what processes that were killed had begun to write."""
    for draft in path.parent.glob(f".{path.name}.*{_ENDING}"):
        draft.unlink(missing_ok=True)


def _packed(thing: Any, arrays: dict[str, np.ndarray], place: str) -> Any:
    """A tree for JSON; its arrays are put aside under numbers."""
    if isinstance(thing, dict):
        for key in thing:
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}. Keys must be text.")
        return {
            key: _packed(one, arrays, f"{place}[{key!r}]") for key, one in thing.items()
        }
    if isinstance(thing, (list, tuple)):
        return [_packed(one, arrays, f"{place}[{n}]") for n, one in enumerate(thing)]
    if thing is None or isinstance(thing, (str, bool, int, float)):
        return thing
    array = np.asarray(thing) if isinstance(thing, (np.ndarray, np.generic)) else None
    if array is None or array.dtype == object:
        raise TypeError(
            f"{place} is {thing!r} ({type(thing).__name__}), which a backup cannot "
            "hold. It holds numbers, text, arrays of NumPy, and lists and dicts of "
            "these."
        )
    name = f"array{len(arrays)}"
    # NumPy's files do not know the types that others add to it, such as bfloat16.
    own = array.dtype.isbuiltin != 1
    arrays[name] = array.view(f"u{array.itemsize}") if own else array
    return {"__array__": name, "dtype": array.dtype.name if own else None}


def _unpacked(thing: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(thing, list):
        return [_unpacked(one, arrays) for one in thing]
    if not isinstance(thing, dict):
        return thing
    if "__array__" not in thing:
        return {key: _unpacked(one, arrays) for key, one in thing.items()}
    array = arrays[thing["__array__"]]
    if thing["dtype"] is None:
        return array
    return array.view(tf.as_dtype(thing["dtype"]).as_numpy_dtype)


def _sync_folder(folder: Path) -> None:
    """Have the disk know the new name, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
