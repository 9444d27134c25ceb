"""Where a study is kept, from what the user gave."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

from kopt.tuning._trials.errors import StorageError
from kopt.tuning._workers.patient import PatientStorage

_WAIT_FOR_LOCK = 60
_ATTEMPTS = 20
# What stamps the tables with their version (alembic) is not for several threads.
_MAKING = threading.Lock()
# libpq's: a machine that is gone is noticed within a minute, not after hours.
_LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_ACCEPTED = (
    "`storage` must be an address such as "
    "'postgresql+psycopg://user@host:5432/database' or 'sqlite:///study.db', or one of "
    "Optuna's storages, such as JournalStorage(JournalFileBackend(path)) or "
    "JournalStorage(JournalRedisBackend(address))."
)


def storage_of(storage: Any, folder: Path) -> PatientStorage:
    """Optuna's storage from what the user gave: nothing, an address, or a storage.

    Raises:
        StorageError: If an address leads to no storage. No password is shown.
    """
    if storage is None:
        path = (folder / "study.db").resolve()
        shown = repr(str(path))
        made = _made(f"sqlite:///{path}", shown, {"creator": _ahead(path)})
        return _patient(made, shown, is_private=True)
    if isinstance(storage, str):
        return _from_address(storage)
    if not isinstance(storage, BaseStorage):
        raise StorageError(f"{_ACCEPTED} Received: {type(storage).__name__}.")
    is_private = isinstance(storage, InMemoryStorage)
    inner = optuna.storages.get_storage(storage)
    return PatientStorage(inner, type(storage).__name__, is_private=is_private)


def shared_storage_of(storage: Any, folder: Path) -> PatientStorage:
    """A storage that other processes of this machine can use too.

    Raises:
        StorageError: If it is in the memory of this process.
    """
    is_in_memory = isinstance(storage, InMemoryStorage)
    if is_in_memory or storage in ("sqlite://", "sqlite:///:memory:"):
        raise StorageError(
            "A storage in the memory of this process has no use for workers, which "
            "are processes of their own. Leave `storage` out, give an address, or "
            "n_jobs=1."
        )
    return storage_of(storage, folder)


def _from_address(address: str) -> PatientStorage:
    try:
        url = sqlalchemy.engine.make_url(address)
    except sqlalchemy.exc.ArgumentError:
        raise StorageError(_ACCEPTED) from None
    shown = repr(url.render_as_string(hide_password=True))
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "sqlite":
        arguments["timeout"] = _WAIT_FOR_LOCK
    if url.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        arguments = {k: v for k, v in _LIBPQ.items() if k not in url.query}
    return _patient(_made(address, shown, {"connect_args": arguments}), shown)


def _patient(made: RDBStorage, shown: str, is_private: bool = False) -> PatientStorage:
    inner = optuna.storages.get_storage(made)
    storage = PatientStorage(inner, shown, is_private=is_private)
    # A server keeps a connection for as long as nobody closes it.
    weakref.finalize(storage, made.engine.dispose)
    return storage


def _made(address: str, shown: str, arguments: dict[str, Any]) -> RDBStorage:
    """A storage in a database, whose tables are made unless they are there."""
    for attempt in range(_ATTEMPTS):
        try:
            return _in_pool(address, arguments)
        except ImportError as error:
            raise StorageError(
                f"The driver of the storage {shown} is not installed: {error}. For "
                'PostgreSQL install it with: pip install "psycopg[binary]"'
            ) from None
        except sqlalchemy.exc.NoSuchModuleError:
            raise StorageError(f"{_ACCEPTED} Received: {shown}.") from None
        except (
            sqlalchemy.exc.SQLAlchemyError,
            optuna.exceptions.StorageInternalError,
        ) as error:
            reason = _reason(error)
            if attempt + 1 == _ATTEMPTS or not _is_passing(error):
                raise StorageError(
                    f"The storage {shown} cannot be used: {reason} Check that the "
                    "server runs, its address, user and password, and that the "
                    "database exists and the user may make tables in it."
                ) from None
        # Another worker makes the tables at this moment.
        time.sleep(random.uniform(0.1, 1.0))
    raise AssertionError("the last attempt returns or raises")


def _in_pool(address: str, arguments: dict[str, Any]) -> RDBStorage:
    """A storage whose connections are closed if it cannot be made."""
    pool = sqlalchemy.create_engine(address, **arguments).pool
    # Optuna takes braces for places to fill in.
    address = address.replace("{", "{{").replace("}", "}}")
    try:
        with _MAKING:
            return RDBStorage(address, engine_kwargs={"pool": pool})
    except BaseException:
        pool.dispose()
        raise


def _cause(error: BaseException) -> BaseException:
    """The error of the database, which Optuna wraps in one of its own."""
    if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__:
        return error.__cause__
    return error


def _reason(error: Exception) -> str:
    cause = _cause(error)
    told = str(getattr(cause, "orig", None) or cause).strip().partition("\n")[0]
    return f"{(told or type(error).__name__).rstrip('.')}."


def _is_passing(error: Exception) -> bool:
    """Whether an error comes from two workers that make the tables at once."""
    cause = _cause(error)
    return isinstance(cause, sqlalchemy.exc.IntegrityError) or any(
        words in str(cause) for words in ("already exists", "is locked", "starting up")
    )


def _ahead(path: Path) -> Any:
    """What connects to a SQLite file whose log is written ahead.

    With it nothing waits for the disk at each epoch, and the death of a process loses
    nothing.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=_WAIT_FOR_LOCK, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    return connect
