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
    target = _followed(path)
    if target.is_dir():
        raise ValueError(
            f"`path` must name a file. Received: path={str(path)!r}, which is a "
            "folder. Add a file name, such as 'model.tflite'."
        )
    _check_draft(target)
    return target


def folder_target(path: Any, *, marker: str) -> Path:
    """The folder that `path` names, after a check that it can be made or replaced.

    Args:
        path: What the user gave.
        marker: A file that an existing folder has to hold before it is replaced, so
            that a slip of the pen does not cost somebody a folder of other things.
    """
    target = _followed(path)
    if target.exists() and not target.is_dir():
        raise ValueError(
            f"`path` must name a folder. Received: path={str(path)!r}, which is a file."
        )
    if target.is_dir() and any(target.iterdir()) and not (target / marker).exists():
        raise ValueError(
            f"`path` must name a new folder, an empty one, or one that holds an "
            f"earlier export. Received: path={str(path)!r}, which holds other things."
        )
    _check_draft(target)
    return target


def _followed(path: Any) -> Path:
    """The path that `path` leads to, where the system can make sense of it."""
    named = _checks.writable_path("path", path)
    try:
        target = named.resolve()
        target.exists()
    except (OSError, ValueError) as error:
        raise _refused(named, error) from error
    return target


def _check_draft(target: Path) -> None:
    """Find out before all the work whether there can be a file beside the target."""
    _checks.writable_path("path", target)
    draft = _beside(target)
    try:
        # Rights do not tell: a disk may be full, or made by the system itself.
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise _refused(target, error) from error


def _refused(path: Path, error: OSError | ValueError) -> OSError | ValueError:
    """The system's refusal, of the same kind, in words that help."""
    reason = getattr(error, "strerror", None) or str(error)
    return type(error)(
        f"`path` must name what can be written. Received: path={str(path)!r}; the "
        f"system says: {reason}. Choose another folder or a shorter name."
    )


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
    # Not all of the name: with what is added it may be longer than a name can be.
    return target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex[:12]}.tmp")
