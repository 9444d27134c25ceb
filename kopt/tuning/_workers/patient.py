"""A storage that waits while its server is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from kopt.tuning._trials.errors import StorageError

# How long a server may be away, and how long between two attempts at most.
_PATIENCE = 600.0
_LONGEST_PAUSE = 5.0


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **named: Any) -> Any:
        return self.insist(getattr(self.inner, name), *args, **named)

    method.__name__ = name
    return method


_Passing: Any = type(
    "_Passing",
    (BaseStorage,),
    {name: _passed_on(name) for name in vars(BaseStorage) if not name.startswith("_")},
)


class PatientStorage(_Passing):
    """Another storage, whose server may be away for some minutes.

    Args:
        inner: The storage.
        shown: Its address as it may be shown, without a password.
        is_private: Whether no process on another machine can use it.
        patience: Seconds after which a server that is away is an error.
    """

    def __init__(
        self,
        inner: BaseStorage,
        shown: str,
        is_private: bool = False,
        patience: float = _PATIENCE,
    ):
        self.inner = inner
        self.shown = shown
        self.is_private = is_private
        self.patience = patience
        # What a new trial carries from its first moment on.
        self.attributes_of_new: Callable[[], dict[str, Any]] = dict

    def insist(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call a method of the storage until its server answers."""
        started, pause = time.monotonic(), 0.0
        while True:
            try:
                return method(*args, **named)
            except Exception as error:
                if not is_away(error):
                    raise
                if time.monotonic() - started > self.patience:
                    raise StorageError(
                        f"The storage {self.shown} has not answered for "
                        f"{self.patience / 60:.0f} minutes: {_told(error)} Start its "
                        "server again; the same call goes on with the search."
                    ) from None
                if pause:
                    logging.getLogger("kopt.tuning").warning(
                        "The storage %s does not answer. Waiting for it.", self.shown
                    )
            # At once first: what is left of an old connection is often all that fails.
            time.sleep(pause)
            pause = min(2 * pause + 0.1, _LONGEST_PAUSE)

    def create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> int:
        if template_trial is None and (attributes := self.attributes_of_new()):
            # With its owner from the first moment on.
            template_trial = optuna.trial.create_trial(
                state=TrialState.RUNNING, user_attrs=attributes
            )
        number: int = super().create_new_trial(study_id, template_trial)
        return number

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Any = None
    ) -> bool:
        calls = 0

        def tell() -> bool:
            nonlocal calls
            calls += 1
            try:
                return self.inner.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                # A server may go away between what it was told and its answer.
                told = self.inner.get_trial(trial_id)
                same = told.state == state and told.values == (
                    None if values is None else list(values)
                )
                if calls > 1 and same:
                    return True
                raise

        done: bool = self.insist(tell)
        return done


def _told(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(getattr(cause, "orig", cause)).strip().partition("\n")[0]


def is_away(error: BaseException) -> bool:
    """Whether an error says that a server cannot be reached at the moment."""
    if isinstance(error, (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)):
        # What Optuna tries next on a broken connection fails for another reason.
        return any(map(_is_lost_connection, _chain(error)))
    if type(error).__module__.startswith("grpc"):
        return "UNAVAILABLE" in str(getattr(error, "code", str)())
    if type(error).__module__.startswith("redis"):
        return isinstance(error, OSError) or type(error).__name__ in (
            "ConnectionError",
            "TimeoutError",
            "BusyLoadingError",
        )
    return False


def _is_lost_connection(error: BaseException) -> bool:
    if not isinstance(error, sqlalchemy.exc.DBAPIError):
        return False
    kinds = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
    return error.connection_invalidated or isinstance(error, kinds)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
