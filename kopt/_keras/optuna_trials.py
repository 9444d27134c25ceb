"""How Optuna's storages know a trial.

A storage writes to a trial by a number of its own, which has no public name. Without it
only the process that began a trial could note anything about it.
"""

from __future__ import annotations

from typing import Any


def id_in_storage(trial: Any) -> int:
    """The number by which a storage knows a trial, frozen or running."""
    return int(trial._trial_id)
