"""What is refused: backups of other runs, and runs that could not be brought back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from kopt import _callback_state
from kopt.callbacks._resuming import container, identity, variables

Named = list[tuple[str, keras.callbacks.Callback]]
_FORMAT = 1


class Refusal(ValueError):
    """A backup that cannot be resumed, with the reason."""


def refusal(path: Path, reason: str) -> Refusal:
    """The error for a backup, with what to do about it."""
    return Refusal(
        f"The backup {str(path)!r} cannot be resumed: {reason} Run what wrote it, give "
        "this run another `backup_dir`, or delete the file to start anew."
    )


def named(callbacks: list[keras.callbacks.Callback]) -> Named:
    """Callbacks with a name of its own for each."""
    found: Named = []
    for one in callbacks:
        kind = type(one).__name__
        count = sum(type(other).__name__ == kind for _, other in found)
        found.append((f"{kind} {count + 1}" if count else kind, one))
    return found


def check_alone(others: Named) -> None:
    """Refuse another callback that backs the same run up."""
    for name, _ in others:
        if name.partition(" ")[0] == "BackupAndRestore":
            raise ValueError(
                f"{name} beside BackupAndRestore backs up the same run, and each would "
                "bring back what is its own. Leave one of them out."
            )


def check_optimizers(model: keras.Model) -> None:
    """Refuse a model that makes variables of optimizers in its training step."""
    for one in variables.optimizers(model):
        if one is not model.optimizer and not one.built:
            raise ValueError(
                f"The optimizer {one.name!r} of {model.name!r} is not built, so its "
                "state could not be brought back. Call `optimizer.build(variables)` "
                "with what it trains, before `fit`."
            )


def stamped(tree: dict[str, Any]) -> dict[str, Any]:
    """What is to be written, with the format that `read` asks for."""
    return {"format": _FORMAT, **tree}


def read(path: Path) -> dict[str, Any]:
    """The content of a backup.

    Raises:
        Refusal: If it is not whole, or was written by another version.
    """
    try:
        saved = container.read(path)
    except ValueError as error:
        raise Refusal(str(error)) from error
    if saved.get("format") != _FORMAT:
        raise refusal(
            path,
            f"it was written in format {saved.get('format')}, and this version of kopt "
            f"reads format {_FORMAT}.",
        )
    return saved


def check_settings(path: Path, saved: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuse the backup of a run with other settings."""
    found = identity.differences(here, saved["identity"])
    if found:
        raise refusal(path, f"it is of a run with other settings: {found[0]}.")


def check_callbacks(path: Path, saved: dict[str, Any], others: Named) -> None:
    """Refuse the backup of a run beside other callbacks that know something."""
    here = {name for name, one in others if _callback_state.has_state(one)}
    there = set(saved["callbacks"])
    for names, words in ((there - here, "it has"), (here - there, "it lacks")):
        if names:
            raise refusal(
                path,
                f"{words} the state of {', '.join(sorted(names))}, and this run has "
                "other callbacks.",
            )


def check_variables(path: Path, saved: dict[str, Any], model: keras.Model) -> None:
    """Refuse the backup of another model."""
    try:
        variables.check(model, saved["variables"])
    except ValueError as error:
        raise refusal(path, str(error)) from None
