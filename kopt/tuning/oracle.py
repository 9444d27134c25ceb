"""Oracle: kopt's search behind the tuners of Keras Tuner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner

from kopt import _checks, _extras
from kopt._keras.asked_values import AskedHyperParameters
from kopt._registry import register
from kopt.tuning._arguments import pruner_of, sampler_of


@register("tuning", serializable=False)
class Oracle(keras_tuner.Oracle):
    """A `keras_tuner.Oracle` whose trials are those of an Optuna study.

    For scripts that are written around a tuner of Keras Tuner: hand it to
    `keras_tuner.Tuner`, a subclass of yours, or `SklearnTuner`, and leave the rest as
    it is. `kopt.tuning.tune` does more: it stops at a deadline and goes on with trials
    that were cut off.

    The study is a SQLite file in the project's folder, unless `storage` says where.
    What a model asks for is searched from the first trial on, in conditional scopes
    and in `HyperModel.fit` too; as with Keras Tuner's own, a name that only an `if`
    guards is drawn for all trials once it was met. Under Keras Tuner's chief and
    workers a name is searched from the second trial on. A script that was killed goes
    on with `overwrite=False`.

    Args:
        sampler: What chooses configurations, as `kopt.tuning.tune` takes it. Defaults
            to `"auto"`.
        pruner: What stops trials early, as `kopt.tuning.tune` takes it; Keras Tuner
            asks for it where `pruning_callback` is among the callbacks of `search`.
            Defaults to `None`.
        objective: A name as `fit` logs it or a `keras_tuner.Objective`; several of them
            make the sum that Keras Tuner makes of them. Defaults to `None`, for a
            `run_trial` that returns a number to minimize.
        max_trials: How many trials there are at most. Defaults to `10`.
        storage: Where the study is kept: an address of SQLAlchemy's, or a storage of
            Optuna. Defaults to a SQLite file in the project's folder.
        name: Name of the study. Defaults to `"tuning"`.
        seed: Seed of the search, from 0. Defaults to `0`.
        **options: Further arguments of `keras_tuner.Oracle`: `hyperparameters`,
            `allow_new_entries`, `tune_new_entries`, `max_retries_per_trial`,
            `max_consecutive_failed_trials`.

    Raises:
        OSError: If the storage cannot be used.
        RuntimeError: If the study of that name is about another objective, direction
            or seed.
        TypeError: If the sampler or the pruner is none.
        ValueError: If a number is outside its range.

    Example:

    >>> import keras_tuner
    >>> def build(hp):
    ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    ...     model.compile(keras.optimizers.SGD(hp.Choice("rate", [1e-6, 0.5])), "mse")
    ...     return model
    >>> x = np.linspace(0, 1, 32).reshape(-1, 1)
    >>> oracle = kopt.tuning.Oracle(objective="loss", max_trials=5)
    >>> tuner = keras_tuner.Tuner(oracle, build, project_name="lines", logger=None)
    >>> tuner.search(x, 3 * x, epochs=3, verbose=0)
    >>> tuner.get_best_hyperparameters()[0].values, len(oracle.study.trials)
    ({'rate': 0.5}, 2)
    """

    def __init__(
        self,
        sampler: Any = "auto",
        pruner: Any = None,
        *,
        objective: Any = None,
        max_trials: int = 10,
        storage: Any = None,
        name: str = "tuning",
        seed: int = 0,
        **options: Any,
    ):
        _extras.load("optuna", "tune")
        super().__init__(
            objective=objective,
            max_trials=_checks.integer("max_trials", max_trials, low=1),
            seed=_checks.integer("seed", seed, low=0),
            **options,
        )
        # Keras Tuner draws a seed in the place of 0.
        self.seed = seed
        self.sampler = sampler_of(sampler)
        self.pruner = pruner_of(pruner, self.sampler)
        self.storage = storage
        self.name = name
        self._told: Any = None

    @property
    def study(self) -> Any:
        """Optuna's study, for its plots and its dashboard."""
        return self._told_trials().study

    def pruning_callback(self) -> keras.callbacks.Callback:
        """A callback that stops hopeless trials, for the `search` of a tuner.

        With several executions per trial it follows the first.

        Example:

        >>> oracle = kopt.tuning.Oracle(pruner=kopt.tuning.Median(), objective="loss")
        >>> callbacks = [oracle.pruning_callback()]  # tuner.search(callbacks=callbacks)
        """
        return _Pruning(self)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The values of a trial, for the names that are known; Keras Tuner asks."""
        told = self._told_trials()
        if told.is_exhausted():
            return {"status": "STOPPED"}
        told.start(trial_id)
        return {"status": "RUNNING", "values": dict(self._asked(trial_id).values)}

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Any:
        """The next trial. What it meets as the first is asked for then."""
        trial = super().create_trial(tuner_id)
        if trial.status == "RUNNING":
            trial.hyperparameters = self._asked(trial.trial_id)
        return trial

    @keras_tuner.synchronized
    def end_trial(self, trial: Any) -> None:
        """Note how a trial ended: in Keras Tuner's files, then in the study."""
        values = dict(trial.hyperparameters.values)
        self._told_trials().note(trial.trial_id, values)
        super().end_trial(trial)
        self._tell(self.trials[trial.trial_id])

    def reload(self) -> None:
        """Read Keras Tuner's files; what they say to have ended ends in the study."""
        super().reload()
        for trial in self.trials.values():
            self._tell(trial)

    def _tell(self, trial: Any) -> None:
        if trial.trial_id in self.end_order:
            score = trial.score if trial.status == "COMPLETED" else None
            self._told_trials().end(trial.trial_id, score, trial.message)

    def _asked(self, trial_id: str) -> AskedHyperParameters:
        """The values of a trial, for the names that are known; others are asked for."""
        known = {one.name for one in self.hyperparameters.space}

        def ask(one: Any) -> Any:
            if not self.tune_new_entries and one.name not in known:
                return one.default
            return self._told_trials().ask(trial_id, one)

        hp = AskedHyperParameters(ask)
        for one in self.hyperparameters.space:
            hp.meet(one)
        return hp

    def _told_trials(self) -> Any:
        """The trials of the study; not opened before a tuner has emptied its folder."""
        if self._told is None:
            from kopt.tuning._trials.told import ToldTrials

            self._told = ToldTrials(self, Path(self._project_dir))
        return self._told


class _Pruning(keras.callbacks.Callback):
    """Reports epochs to the study, and stops the training of what it calls hopeless."""

    def __init__(self, oracle: Oracle):
        super().__init__()
        self._oracle = oracle

    def __deepcopy__(self, memo: dict[int, Any]) -> _Pruning:
        # Keras Tuner copies callbacks for each execution; the oracle is one.
        return _Pruning(self._oracle)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._told = self._oracle._told_trials()
        self._told.lay_out(self.params["epochs"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value = self._oracle.objective.get_value(logs or {})
        if self._told.is_hopeless(epoch + 1, value):
            self.model.stop_training = True
