"""What a worker process of this machine runs.

It is started as `python -c`, and reads from its standard input first the paths that
modules are searched in, then all the rest. The input stays open: its end is the end of
the process that has started the worker.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

# Exit codes.
DONE, REPLACE, ERROR = 0, 75, 70

# Before kopt can be imported, and with it everything else.
START = (
    "import pickle, sys; "
    "sys.path[:], sys.argv[:] = pickle.load(sys.stdin.buffer); "
    "from kopt.tuning._workers.process import main; main()"
)


def main() -> None:
    """Read a parcel, run a search's trials, and exit with what has become of it."""
    source = sys.stdin.buffer
    settings: dict[str, Any] = pickle.load(source)
    threading.Thread(target=_end_with, args=(source,), daemon=True).start()
    _use_cores(settings["cores"])
    try:
        replace = _run(settings)
    except BaseException as error:
        _leave(Path(settings["error"]), error)
        _exit(ERROR)
    _exit(REPLACE if replace else DONE)


def _run(settings: dict[str, Any]) -> bool:
    from kopt.tuning._trials.search import Search
    from kopt.tuning._trials.study import quiet
    from kopt.tuning._workers.folder import joined
    from kopt.tuning._workers.parcel import unpacked
    from kopt.tuning._workers.resources import memory_in_use
    from kopt.tuning.tuner import Tuner

    tuner = Tuner(**unpacked(settings["parcel"], Path(settings["arrays"])))

    def is_used_up(trials: int) -> bool:
        limit = settings["memory"]
        return trials >= settings["trials"] or (
            limit is not None and memory_in_use() > limit
        )

    with joined(tuner.directory) as worker, quiet():
        spent = time.monotonic() - settings["origin"]
        return Search(tuner, worker).run(until=is_used_up, spent=spent)


def _end_with(source: IO[bytes]) -> None:
    """End with the process that has started this one, whose trials run again."""
    source.read()
    os._exit(1)


def _use_cores(count: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def _leave(path: Path, error: BaseException) -> None:
    """Leave an error for the process that has started this one."""
    import cloudpickle

    told: Any = error
    try:
        body = cloudpickle.dumps(told)
    except Exception:
        body = cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    with contextlib.suppress(OSError):
        path.write_bytes(body)


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread that waits for a server, or for the input, is not waited for.
    os._exit(code)
