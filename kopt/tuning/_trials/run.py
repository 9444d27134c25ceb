"""One trial: a model is built, trained and scored."""

from __future__ import annotations

import copy
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import keras_tuner
import numpy as np
import optuna
import tensorflow as tf

from kopt._keras.asked_values import AskedHyperParameters
from kopt.tuning._network import NetworkHyperModel
from kopt.tuning._trials import records
from kopt.tuning._trials.clock import Clock, OutOfTime
from kopt.tuning._trials.data import fit_data
from kopt.tuning._trials.errors import ObjectiveError, SpaceError
from kopt.tuning._trials.own_folder import in_own_folder
from kopt.tuning._trials.recorder import Recorder, TrialFailed, not_logged
from kopt.tuning._trials.resumption import Resumption, backs_up
from kopt.tuning._trials.space import Space
from kopt.tuning._trials.study import say

# What is wrong with the search as a whole, whatever the configuration.
FATAL = (ObjectiveError, SpaceError, keras_tuner.errors.FatalError)
_LONGEST_REASON = 2000


@dataclass
class Task:
    """What all trials of a search have in common."""

    hypermodel: Any
    data: Any
    objective: Any
    score: str | int
    seed: int
    callbacks: Any
    fit_arguments: Mapping[str, Any]
    # Where trials are backed up.
    directory: Path
    # Called with the names met so far, when the model of a trial has been built.
    # What shows the trials as they go.
    progress: Any = None
    after_build: Callable[[Space], None] = field(default=lambda space: None)


@dataclass
class Outcome:
    """A trial's model, with the weights of its score, and the score."""

    model: Any
    score: float


def run(
    task: Task, trial: optuna.Trial, seed: int, space: Space, clock: Clock
) -> Outcome:
    """Run a trial to its score.

    Args:
        task: What all trials of the search have in common.
        trial: The trial.
        seed: The seed of its training.
        space: The space of the search.
        clock: The clock of the search.

    Raises:
        TrialFailed: If it has none, for a reason that is kept.
        optuna.TrialPruned: If it was stopped.
        OutOfTime: If it was cut by the clock.
    """
    clock.start_trial()
    try:
        return _trained(task, trial, seed, space, clock)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise TrialFailed("out of memory", _told(error)) from error
    except keras_tuner.errors.FailedTrialError as error:
        raise TrialFailed("refused", _told(error)) from error
    finally:
        trial.set_user_attr(records.SECONDS, clock.trial_seconds)
        clock.end_trial()


def _trained(
    task: Task, trial: optuna.Trial, seed: int, space: Space, clock: Clock
) -> Outcome:
    # Names of layers start anew, so that a trial does not depend on those before.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    hp = AskedHyperParameters(lambda asked: space.ask(trial, asked))
    recorder = _recorder(task, trial, clock)
    try:
        model = task.hypermodel.build(hp)
        task.after_build(space)
        # For callbacks, and for those who look on.
        trial.set_user_attr(records.VALUES, dict(hp.values))
        arguments = _fit_arguments(task, trial, hp, recorder)
        arguments[1]["callbacks"] += _backup(task, trial, arguments[1]["callbacks"])
        keras.utils.set_random_seed(seed)
        result = task.hypermodel.fit(hp, model, *arguments[0], **arguments[1])
    except OutOfTime as cut:
        if recorder.values:
            cut.outcome = Outcome(_at_best(model, recorder), recorder.best_value())
        raise
    finally:
        trial.set_user_attr(records.VALUES, dict(hp.values))
        trial.set_user_attr(records.HISTORY, recorder.history)
    if recorder.is_pruned:
        raise optuna.TrialPruned
    score = _score(task, recorder, result)
    return Outcome(_at_best(model, recorder), score)


def resumption(task: Task, study: optuna.Study) -> Resumption:
    """The backups of a study's trials."""
    return Resumption(task.directory, study, lambda text: say(study, text))


def _backup(task: Task, trial: optuna.Trial, callbacks: list[Any]) -> list[Any]:
    """The callback by which a trial goes on where it was cut off, if it can."""
    if any(backs_up(one) for one in callbacks):
        return []
    if trains_itself(task.hypermodel):
        if records.RETRY_OF in trial.user_attrs:
            say(
                trial.study,
                f"Trial {trial.number} was cut off, and starts anew: the hypermodel "
                "has a `fit` of its own. Give its callbacks a "
                "kopt.callbacks.BackupAndRestore to have it go on.",
            )
        return []
    return [resumption(task, trial.study).backup(trial)]


def refitted(task: Task, values: Mapping[str, Any], seed: int, clock: Clock) -> Outcome:
    """A model with given values, trained again outside of the search.

    Raises:
        OutOfTime: If it was cut by the clock before the first epoch had ended.
    """
    clock.start_trial()
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    model = task.hypermodel.build(hp)
    recorder = _recorder(task, _NoTrial(), clock)
    positional, named = _fit_arguments(task, _NoTrial(), hp, recorder)
    keras.utils.set_random_seed(seed)
    try:
        result = task.hypermodel.fit(hp, model, *positional, **named)
    except OutOfTime:
        if not recorder.values:
            raise
        return Outcome(_at_best(model, recorder), recorder.best_value())
    score = _score(task, recorder, result)
    return Outcome(_at_best(model, recorder), score)


class _NoTrial:
    """In the place of a trial, where there is no search."""

    number = -1
    user_attrs: Mapping[str, Any] = MappingProxyType({})

    def set_user_attr(self, key: str, value: Any) -> None:
        pass

    def report(self, value: float, step: int) -> None:
        pass

    def should_prune(self) -> bool:
        return False


def _at_best(model: Any, recorder: Recorder) -> Any:
    if recorder.best_weights is not None:
        model.set_weights(recorder.best_weights)
    return model


def _recorder(task: Task, trial: Any, clock: Clock) -> Recorder:
    every = task.fit_arguments.get("validation_freq", 1)
    validated = (every if isinstance(every, int) else max(every)) - 1
    return Recorder(
        trial,
        task.objective,
        clock,
        first_expected=None if trains_itself(task.hypermodel) else validated,
        keep_best=task.score == "best",
    )


def trains_itself(hypermodel: Any) -> bool:
    """Whether a user's hypermodel has a training of its own."""
    kind = type(hypermodel)
    own = kind.fit is not keras_tuner.HyperModel.fit
    return own and not issubclass(kind, NetworkHyperModel)


def _fit_arguments(
    task: Task, trial: Any, hp: Any, recorder: Recorder
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    positional, named = fit_data(task.data, hp)
    if callable(task.callbacks):
        callbacks = list(task.callbacks(trial))
    else:
        # Callbacks have a state; each trial starts with a fresh one.
        callbacks = [in_own_folder(copy.deepcopy(one), trial) for one in task.callbacks]
    usual: dict[str, Any] = {}
    if not trains_itself(task.hypermodel):
        # A training of the user's own need not take what it was not given.
        usual["verbose"] = 0
        if isinstance(positional[0], tf.data.Dataset) or hasattr(
            positional[0], "__next__"
        ):
            usual["shuffle"] = False  # Keras warns of its own default otherwise.
    named = {**usual, **task.fit_arguments, **named}
    logged = [task.objective.callback()] if hasattr(task.objective, "callback") else []
    # First what the others may look at.
    shown = [task.progress.callback()] if task.progress and trial.number >= 0 else []
    named["callbacks"] = [*logged, *callbacks, recorder, *shown]
    return positional, named


def _score(task: Task, recorder: Recorder, result: Any) -> float:
    """The score of a training that ran to its end, as the user asked for it."""
    if isinstance(result, (list, tuple)):
        # Several trainings of one trial, such as those of a cross-validation.
        score = float(np.mean([_score_of(task, recorder, one) for one in result]))
    else:
        score = _score_of(task, recorder, result)
    if not math.isfinite(score):
        raise TrialFailed("not finite", f"{task.objective.name} is {score}.")
    return score


def _score_of(task: Task, recorder: Recorder, result: Any) -> float:
    """The score of one training, from what it returned or from what was recorded."""
    name = task.objective.name
    if isinstance(result, (int, float, np.number)):
        return float(result)
    if isinstance(result, Mapping):
        if name not in result:
            raise not_logged(name, result)
        return float(result[name])
    values = recorder.values
    if isinstance(result, keras.callbacks.History):
        # A training of the user's own may have left out the search's callbacks.
        values = result.history.get(name, values)
    if not values:
        raise not_logged(name, recorder.history)
    if task.score == "best":
        return max(values) if task.objective.direction == "max" else min(values)
    count = 1 if task.score == "last" else int(task.score)
    return float(np.mean(values[-count:]))


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]


def as_failure(error: Exception) -> TrialFailed:
    """Any error of a build function or a training as a failure of its trial."""
    last = traceback.format_exception(error)[-12:]
    return TrialFailed("error", f"{_told(error)}\n{''.join(last)}"[:_LONGEST_REASON])
