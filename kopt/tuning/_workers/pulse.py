"""The sign of life of a trial, and the trials that give none."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from kopt._keras.optuna_trials import id_in_storage
from kopt.tuning._trials import records
from kopt.tuning._trials.clock import Clock

_BEATS_IN_A_GRACE = 4


class Watch:
    """Running trials, and for how long nothing has moved in each.

    Only time during which somebody looks counts, by the clock of the one who looks.
    Clocks of two machines are never compared, and a server that is away for an hour, or
    a machine that sleeps, makes nobody dead.

    Args:
        grace: Seconds without a sign of life after which a trial is dead.
    """

    def __init__(self, grace: float):
        self._grace = grace
        self._seen: dict[int, tuple[Any, float, float]] = {}
        self._lock = threading.Lock()

    def look(self, running: Sequence[FrozenTrial]) -> None:
        """Take note of the trials that run at the moment."""
        now = time.monotonic()
        longest = 2 * self._grace / _BEATS_IN_A_GRACE
        with self._lock:
            before, self._seen = self._seen, {}
            for trial in running:
                mark = _mark(trial)
                known, last, still = before.get(trial.number, (None, now, 0.0))
                still += min(now - last, longest)
                if known != mark:
                    still = 0.0
                self._seen[trial.number] = (mark, now, still)

    def is_dead(self, trial: FrozenTrial) -> bool:
        """Whether nothing has moved in a trial for longer than the grace."""
        with self._lock:
            mark, _, still = self._seen.get(trial.number, (None, 0.0, 0.0))
        return still > self._grace and mark == _mark(trial)


class Pulse:
    """Beats for the trial that runs, and looks after the others, beside the training.

    Args:
        study: The study.
        storage: Its storage.
        clock: The clock of the search. What the search has taken is the beat.
        grace: Seconds without a beat after which others call a trial dead.
    """

    def __init__(self, study: optuna.Study, storage: Any, clock: Clock, grace: float):
        self.watch = Watch(grace)
        self._study = study
        self._storage = storage
        self._clock = clock
        self._interval = grace / _BEATS_IN_A_GRACE
        self._ended = threading.Event()
        self._trial: int | None = None

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Beat in the background."""
        thread = threading.Thread(target=self._beat, name="kopt-pulse", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(1.0)  # It may wait for a server, and ends with the process.

    def start(self, trial: optuna.Trial) -> None:
        """Beat for a trial from now on."""
        self._clock.is_lost = False
        self._trial = id_in_storage(trial)

    def stop(self) -> None:
        """Beat for none."""
        self._trial = None

    def _beat(self) -> None:
        while not self._ended.wait(self._interval):
            trial = self._trial
            try:
                if trial is not None:
                    self._storage.set_trial_user_attr(
                        trial, records.BEAT, self._clock.elapsed
                    )
                running = self._study.get_trials(
                    deepcopy=False, states=(TrialState.RUNNING,)
                )
                self.watch.look(running)
            except UpdateFinishedTrialError:
                # By another worker, unless the trial has just ended here.
                if trial == self._trial:
                    self._clock.is_lost = True
                    self._trial = None
            except Exception:
                # The storage is gone for good: what writes next to it says so.
                return
            finally:
                self._storage.remove_session()


def _mark(trial: FrozenTrial) -> tuple[Any, ...]:
    attributes = trial.user_attrs
    return (
        attributes.get(records.WORKER),
        attributes.get(records.BEAT),
        len(attributes),
        len(trial.params),
        trial.last_step,
    )
