"""Tuner: a search for the hyperparameters of a Keras model."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras_tuner

from kopt import _checks, _extras
from kopt._registry import register
from kopt.tuning._arguments import (
    confirm_of,
    hypermodel_of,
    objective_of,
    pruner_of,
    sampler_of,
)
from kopt.tuning.budget import Budget
from kopt.tuning.results import Results


@register("tuning", serializable=False)
class Tuner:
    """A search for the hyperparameters of a Keras model.

    What `kopt.tuning.tune` makes and runs; its arguments are described there. To look
    at a search before it runs, or to run it in several calls.

    Args:
        model_or_build: A function of `hp` or a hypermodel.
        data: Training data.
        objective: What is to be small or large.
        budget: How much the search may cost.
        sampler: What chooses configurations.
        pruner: What stops trials early.
        storage: Where the study is kept.
        name: Name of the study.
        directory: Folder of the results.
        initial: Configurations to begin with.
        score: Which epochs make a trial's score.
        seed: Seed of the search.
        callbacks: Callbacks of each trial.
        keep: How many of the best models are kept.
        confirm: How often the leading configurations are trained again.
        progress: Whether trials are shown as they go.
        n_jobs: Workers that are started on this machine.
        grace: Seconds without a sign of life after which a trial is dead.
        **fit_arguments: Further arguments of `fit`.

    Example:

    >>> def build(hp):
    ...     model = keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 3))])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> data = (np.ones((8, 2)), np.ones((8, 1)))
    >>> budget = kopt.tuning.Budget(trials=9)
    >>> tuner = kopt.tuning.Tuner(build, data, objective="loss", budget=budget)
    >>> tuner.search().why()[-1]
    'The search ended: all of the space has been tried.'
    """

    def __init__(
        self,
        model_or_build: Any,
        data: Any,
        *,
        objective: str | keras_tuner.Objective,
        budget: Budget,
        sampler: Any = "auto",
        pruner: Any = None,
        storage: Any = None,
        name: str = "tuning",
        directory: str | Path = "tuning",
        initial: Sequence[Mapping[str, Any]] = (),
        score: str | int = "best",
        seed: int = 0,
        callbacks: Iterable[Any] | Callable[[Any], Iterable[Any]] = (),
        keep: int = 1,
        confirm: str | int = "auto",
        progress: Any = None,
        n_jobs: int = 1,
        grace: float = 60.0,
        **fit_arguments: Any,
    ):
        _extras.load("optuna", "tune")
        from kopt.tuning._trials.data import check_reusable
        from kopt.tuning._trials.run import Task

        if not isinstance(budget, Budget):
            raise TypeError(
                "`budget` must be a kopt.tuning.Budget, such as Budget(trials=50). "
                f"Received: budget={budget!r}."
            )
        if score not in ("best", "last"):
            score = _checks.integer(
                "score", score, low=1, hint='Or "best" or "last" epoch.'
            )
        self.budget = budget
        self.sampler = sampler_of(sampler)
        self.pruner = pruner_of(pruner, self.sampler)
        self.storage = storage
        self.name = name
        self.directory = Path(directory)
        self.grace = _checks.number("grace", grace, low=0, low_open=True)
        self.progress = progress
        self.keep = _checks.integer("keep", keep, low=1)
        self.task = Task(
            hypermodel=hypermodel_of(model_or_build),
            data=data,
            objective=objective_of(objective),
            score=score,
            seed=_checks.integer("seed", seed, low=0),
            callbacks=callbacks if callable(callbacks) else list(callbacks),
            fit_arguments=fit_arguments,
            directory=self.directory,
        )
        self.confirm = confirm_of(confirm, budget, self.task.hypermodel)
        self.initial = [dict(one) for one in initial]
        _check_copies(self.task.callbacks)
        check_reusable(data, fit_arguments)
        self.n_jobs = _checks.integer("n_jobs", n_jobs, low=1)
        self.called: float | None = None

    def search(self) -> Results:
        """Run the search to the end of its budget, as one of its workers.

        Raises:
            OSError: If the storage cannot be used.
            TypeError: If something cannot be sent to the workers of `n_jobs`.
            ValueError: If the objective is never logged, or the space is not the
                one of the study.
            RuntimeError: If the first ten trials fail, or the study is about something
                else.
        """
        from kopt.tuning._trials.search import Search
        from kopt.tuning._trials.study import quiet
        from kopt.tuning._workers.folder import joined

        self.called = self.called or time.monotonic()
        try:
            if self.n_jobs > 1:
                clock = self._start_workers()
            else:
                with joined(self.directory) as worker, quiet():
                    search = Search(self, worker)
                    search.run()
                    clock = search.clock
        finally:
            self.called = None
        found = self.results()
        found.clock = clock
        return found

    def seconds_since_call(self) -> float:
        """Seconds since the search was asked for: its imports, its storage."""
        return 0.0 if self.called is None else time.monotonic() - self.called

    def _start_workers(self) -> Any:
        from kopt.tuning._trials.clock import Clock, spent
        from kopt.tuning._trials.data import fingerprint
        from kopt.tuning._trials.progress import Progress
        from kopt.tuning._trials.study import opened
        from kopt.tuning._workers.pool import Pool
        from kopt.tuning._workers.storages import shared_storage_of

        task = self.task
        self.directory.mkdir(parents=True, exist_ok=True)
        # Here first, so that what is wrong with it is said once.
        storage = shared_storage_of(self.storage, self.directory)
        data = fingerprint(task.data)
        study = opened(storage, self.name, task.objective, task.seed, data, task.score)
        parts = {
            "model_or_build": task.hypermodel,
            "data": task.data,
            "objective": task.objective,
            "budget": self.budget,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "storage": self.storage,
            "name": self.name,
            "directory": self.directory.resolve(),
            "initial": self.initial,
            "score": task.score,
            "seed": task.seed,
            "callbacks": task.callbacks,
            "keep": self.keep,
            "progress": False,
            "confirm": self.confirm,
            "grace": self.grace,
            **task.fit_arguments,
        }
        trials = partial(study.get_trials, deepcopy=False)
        clock = Clock(self.budget, spent(trials()) + self.seconds_since_call())
        shown = Progress(study, task.objective.name, self.budget, self.progress)
        shown.open()
        try:
            Pool(
                parts,
                self.n_jobs,
                self.directory,
                begun=lambda: len(trials()),
                spent=clock.elapsed,
                look=shown.look,
            ).run()
        finally:
            shown.close()
        return clock

    def results(self) -> Results:
        """What the search has found so far."""
        found = Results(self.directory, name=self.name, storage=self.storage)
        found.task = self.task
        return found


def _check_copies(callbacks: Any) -> None:
    """Refuse callbacks that cannot be copied before a trial needs them."""
    for callback in () if callable(callbacks) else callbacks:
        try:
            copy.deepcopy(callback)
        except Exception as error:
            raise TypeError(
                f"The callback {type(callback).__name__} cannot be copied, which each "
                f"trial does to begin with a fresh one: {error}. Give a function that "
                f"makes it: callbacks=lambda trial: [{type(callback).__name__}(...)]."
            ) from error
