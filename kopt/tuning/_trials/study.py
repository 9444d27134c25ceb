"""The study of a search: opened and checked, and what was said in it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import optuna

from kopt.tuning._trials import records
from kopt.tuning._trials.errors import SearchError


def opened(
    storage: Any,
    name: str,
    objective: Any,
    seed: int,
    data: str | None,
    scored_by: str | int | None = None,
) -> optuna.Study:
    """The study of that name, new or continued.

    Args:
        storage: Where it is kept.
        name: Its name.
        objective: Its objective.
        seed: Its seed.
        data: The mark of the data.
        scored_by: Which epochs make a trial's score; `None` if somebody else decides.

    Raises:
        SearchError: If a study of that name is about something else.
    """
    direction: Any = {"min": "minimize", "max": "maximize"}[objective.direction]
    with quiet():
        study = optuna.create_study(
            storage=storage, study_name=name, direction=direction, load_if_exists=True
        )
    told = {
        records.OBJECTIVE: objective.name,
        records.SEED: seed,
        records.DATA: data,
        records.SCORED_BY: scored_by,
    }
    if study.direction.name.lower() != direction:
        raise SearchError(
            f"The study {name!r} has the direction {study.direction.name.lower()!r}, "
            f"and the objective {objective.name!r} the direction {direction!r}. Give "
            "another `name=`, or the objective that it was started with."
        )
    found = study.user_attrs
    for key, what in (
        (records.OBJECTIVE, "objective"),
        (records.SEED, "seed"),
        (records.DATA, "version of the data"),
        (records.SCORED_BY, "`score`"),
    ):
        if key in found and found[key] != told[key]:
            raise SearchError(
                f"The study {name!r} was started with another {what}: {found[key]!r} "
                f"there, {told[key]!r} here. Give another `name=` or `directory=`, or "
                "go on as it was started."
            )
        if key not in found:
            study.set_user_attr(key, told[key])
    return study


def say(study: optuna.Study, text: str) -> None:
    """Log a line, and keep it with the study."""
    if text not in said(study):
        logging.getLogger("kopt.tuning").info(text)
        study.set_user_attr(f"{records.WHY}{time.time_ns():020d}", text)


def said(study: optuna.Study) -> list[str]:
    """The lines that were kept with a study, in order; each once."""
    lines = sorted(i for i in study.user_attrs.items() if i[0].startswith(records.WHY))
    return list(dict.fromkeys(text for _, text in lines))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's line for each trial; kopt has its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
