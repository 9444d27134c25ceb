"""The study of a search: opened, checked, and cleared of what was cut off."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import TrialState

from kopt.tuning._trials import records
from kopt.tuning._trials.errors import SearchError, StorageError

_WAIT_FOR_LOCK = 60


def storage_of(storage: Any, folder: Path) -> Any:
    """Optuna's storage from what the user gave: nothing, an address, or a storage.

    Raises:
        StorageError: If an address leads to no storage. No password is shown.
    """
    if storage is None:
        return _file_storage((folder / "study.db").resolve())
    if not isinstance(storage, str):
        return storage
    try:
        address = sqlalchemy.engine.make_url(storage)
        shown = address.render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        raise StorageError(
            "`storage` must be an address such as 'sqlite:///study.db' or "
            "'postgresql+psycopg://user@host:5432/database', or one of Optuna's "
            "storages."
        ) from None
    try:
        return optuna.storages.RDBStorage(storage)
    except ImportError as error:
        raise StorageError(
            f"The driver of the storage {shown!r} is not installed: {error}. For "
            'PostgreSQL install it with: pip install "psycopg[binary]"'
        ) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise StorageError(
            f"The storage {shown!r} cannot be used: {reason[-1] if reason else ''} "
            "Check that the server runs, its address, user and password, and that the "
            "database exists."
        ) from None


def _file_storage(path: Path) -> optuna.storages.RDBStorage:
    """The SQLite file of a folder.

    With a log that is written ahead, nothing waits for the disk at each epoch, and the
    death of a process loses nothing.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_WAIT_FOR_LOCK)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    return optuna.storages.RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"creator": connect}
    )


def opened(
    storage: Any, name: str, objective: Any, seed: int, data: str | None
) -> optuna.Study:
    """The study of that name, new or continued.

    Raises:
        SearchError: If a study of that name is about something else.
    """
    direction: Any = {"min": "minimize", "max": "maximize"}[objective.direction]
    with quiet():
        study = optuna.create_study(
            storage=storage, study_name=name, direction=direction, load_if_exists=True
        )
    told = {records.OBJECTIVE: objective.name, records.SEED: seed, records.DATA: data}
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


def repeat_cut_off(study: optuna.Study, folder: str) -> int:
    """Line up again the trials that ended with their process. Returns how many.

    Those that were cut off in order, and those that still count as running in a folder
    whose lock is held: their process is dead.
    """
    trials = study.get_trials(deepcopy=False)
    last = records.last_repetitions(trials)
    count = 0
    for trial in trials:
        dead = trial.state == TrialState.RUNNING and (
            trial.user_attrs.get(records.FOLDER) in (None, folder)
        )
        original = records.original(trial)
        is_last = last.get(original, trial.number) == trial.number
        if is_last and (dead or records.CUT_OFF in trial.user_attrs):
            # What was asked for already is drawn again, by the same seed.
            given = trial.user_attrs.get(records.GIVEN, {})
            attributes = {records.RETRY_OF: original, records.GIVEN: given}
            study.enqueue_trial({}, user_attrs=attributes)
            count += 1
        if dead:
            # Behind its repetition: whatever happens in between, it is not lost.
            study.tell(trial.number, state=TrialState.FAIL)
    return count


def say(study: optuna.Study, text: str) -> None:
    """Log a line, and keep it with the study."""
    said = study.user_attrs.get(records.WHY, [])
    if text not in said:
        logging.getLogger("kopt.tuning").info(text)
        study.set_user_attr(records.WHY, [*said, text])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's line for each trial; kopt has its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
