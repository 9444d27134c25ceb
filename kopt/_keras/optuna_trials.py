"""How Optuna's storages know a trial, and which trials its samplers are shown.

A storage writes to a trial by a number of its own, which has no public name. Without
it only the process that began a trial could note anything about it. What a sampler
reads of a study goes through a method without a public name, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any


def id_in_storage(trial: Any) -> int:
    """The number by which a storage knows a trial, frozen or running."""
    return int(trial._trial_id)


def without(study: Any, is_hidden: Callable[[Any], bool]) -> Any:
    """The same study, as if some of its trials were not there.

    Args:
        study: A study of Optuna.
        is_hidden: Whether a trial is left out.
    """

    class Narrowed(type(study)):  # type: ignore[misc]
        def _get_trials(self, *args: Any, **arguments: Any) -> list[Any]:
            trials = study._get_trials(*args, **arguments)
            return [trial for trial in trials if not is_hidden(trial)]

    narrowed = copy.copy(study)
    narrowed.__class__ = Narrowed
    return narrowed
