"""Files and folders that are written whole or not at all.

The new content is made beside its target, in the same folder and so on the same disk,
and takes the target's name in one step when everything that was to be done with it has
worked. Until then the old content stays as it was.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kopt import _checks


def file_target(path: Any) -> Path:
    """The file that `path` names, links followed, after a check that it can be made."""
    target = _checks.writable_path("path", path).resolve()
    if target.is_dir():
        raise ValueError(
            f"`path` must name a file. Received: path={str(path)!r}, which is a "
            "folder. Add a file name, such as 'model.tflite'."
        )
    _checks.writable_path("path", target)
    return target


def folder_target(path: Any, *, marker: str) -> Path:
    """The folder that `path` names, after a check that it can be made or replaced.

    Args:
        path: What the user gave.
        marker: A file that an existing folder has to hold before it is replaced, so
            that a slip of the pen does not cost somebody a folder of other things.
    """
    target = _checks.writable_path("path", path).resolve()
    if target.exists() and not target.is_dir():
        raise ValueError(
            f"`path` must name a folder. Received: path={str(path)!r}, which is a file."
        )
    if target.is_dir() and any(target.iterdir()) and not (target / marker).exists():
        raise ValueError(
            f"`path` must name a new folder, an empty one, or one that holds an "
            f"earlier export. Received: path={str(path)!r}, which holds other things."
        )
    _checks.writable_path("path", target)
    return target


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A draft beside `target` that replaces it when the block ends without an error."""
    draft = _beside(target)
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A draft folder that replaces `target` when the block ends without an error."""
    draft, former = _beside(target), _beside(target)
    draft.mkdir()
    try:
        yield draft
        if target.exists():
            # A folder cannot be renamed onto one that has content.
            target.rename(former)
        try:
            draft.rename(target)
        except OSError:
            if former.exists():
                former.rename(target)
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
