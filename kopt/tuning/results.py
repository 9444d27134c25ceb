"""Results: what a search has found."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from kopt import _checks, _extras, _text_table
from kopt._registry import register
from kopt.tuning.budget import Budget

_SHOWN = 10
# Seeds behind those of any trial of a search.
_SEEDS_OF_REFITS = 1 << 32


@register("tuning", serializable=False)
class Results:
    """What a search has found, read from its study.

    `kopt.tuning.tune` returns one. Made from the folder of a search, it shows the same
    at any later time, also after the build function has changed. Printed, it is a table
    of the best trials.

    Where the leading configurations were trained again (`confirm=`), these come first,
    by the means of their scores.

    Args:
        directory: The folder of the search.
        name: The name of its study.
        storage: Where the study is kept, if not in the folder.

    Attributes:
        study: Optuna's study, for its plots and its dashboard. A parameter of a choice
            with an order, or of a logarithmic range with a `step`, is the index of the
            value there.

    Raises:
        FileNotFoundError: If the folder holds no study.
        ValueError: If there is no study of that name.

    Example:

    >>> def build(hp):
    ...     model = keras.Sequential([keras.layers.Dense(hp.Choice("units", [1, 2]))])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> data = (np.ones((8, 2)), np.ones((8, 1)))
    >>> budget = kopt.tuning.Budget(trials=2)
    >>> results = kopt.tuning.tune(build, data, objective="loss", budget=budget)
    >>> results.best_score == kopt.tuning.Results("tuning").best_score
    True
    """

    def __init__(
        self,
        directory: str | Path = "tuning",
        *,
        name: str = "tuning",
        storage: Any = None,
    ):
        optuna = _extras.load("optuna", "tune")
        from kopt.tuning._trials.study import quiet
        from kopt.tuning._workers.storages import storage_of

        self.directory = Path(directory)
        self.name = name
        if storage is None and not (self.directory / "study.db").exists():
            raise FileNotFoundError(
                f"The folder {str(directory)!r} holds no study. Give the `directory` "
                "of a search, or its `storage`."
            )
        opened = storage_of(storage, self.directory)
        with quiet():
            try:
                self.study = optuna.load_study(study_name=name, storage=opened)
            except KeyError:
                known = ", ".join(map(repr, optuna.get_all_study_names(opened)))
                raise ValueError(
                    f"There is no study {name!r}. There are: {known or 'none'}."
                ) from None
        # Set by a search, which knows how a model is trained.
        self.task: Any = None
        # The search's own, for refits.
        self.clock: Any = None

    @property
    def best_trial(self) -> Any:
        """Optuna's record of the best configuration's best trial."""
        from kopt.tuning._trials.configurations import sign_of

        return self._best().best_run(sign_of(self.study))

    def _best(self) -> Any:
        """The best configuration, with all of its trials."""
        from kopt.tuning._trials.configurations import best_first
        from kopt.tuning._trials.errors import SearchError

        found = best_first(self.study)
        if not found:
            raise SearchError(
                "No trial has a score yet. `rows()` has the reason of each failure. "
                "Give the search a larger budget."
            )
        return found[0]

    @property
    def best_score(self) -> float:
        """The best configuration's score: the mean where it was trained again."""
        score: float = self._best().score
        return score

    @property
    def best_values(self) -> dict[str, Any]:
        """The hyperparameters of the best trial by name, fixed ones included."""
        from kopt.tuning._trials import records

        return dict(self.best_trial.user_attrs[records.VALUES])

    def best_hyperparameters(self) -> keras_tuner.HyperParameters:
        """The best trial's values as an `hp`, to give to a build function."""
        hp = keras_tuner.HyperParameters()
        hp.values = self.best_values
        return hp

    def best_model(self) -> keras.Model:
        """The model of the best trial as it was trained, with its score.

        Of a configuration that was trained again, the best of its trials
        (`best_trial`). A loss or a metric of the user's own is compiled where the
        results come from a search; read from the folder alone, such a model predicts,
        and a warning says so.

        Raises:
            RuntimeError: If no trial has a score, or if the model can be made neither
                from its file nor by the build function of a search.
        """
        from kopt.tuning._trials.checkpoints import Checkpoints
        from kopt.tuning._trials.errors import SearchError

        number = self.best_trial.number
        files = Checkpoints(self.directory, self.study, keep=1)
        whole, weights = files.path(number), files.weights_path(number)
        if whole.exists():
            try:
                return keras.saving.load_model(whole)
            except (TypeError, ValueError) as error:
                if self.task is None:
                    return _without_training(whole, error)
        source = whole if whole.exists() else weights
        if not source.exists():
            self._check_folder()
        if self.task is None or not source.exists():
            raise SearchError(
                f"The model of trial {number} cannot be loaded: there is "
                f"{'only a file of its weights' if source.exists() else 'no file'} in "
                f"{str(self.directory)!r}. Call kopt.tuning.tune with the arguments of "
                "the search (it trains nothing if the budget is used up), and take "
                "`best_model()` or `refit()` of what it returns."
            )
        model = self.task.hypermodel.build(self.best_hyperparameters())
        model.load_weights(source)
        return model

    def _check_folder(self) -> None:
        """Refuse to look for a model where another worker's folder has it."""
        from kopt.tuning._trials import records
        from kopt.tuning._trials.errors import SearchError
        from kopt.tuning._workers.folder import mark_of

        trial = self.best_trial
        if trial.user_attrs.get(records.FOLDER) not in (None, mark_of(self.directory)):
            raise SearchError(
                f"The model of trial {trial.number} is in another folder than "
                f"{str(self.directory)!r}: its worker ran with "
                f"{trial.user_attrs.get(records.PLACE)}. Give that folder as "
                "`directory`, or give all workers one `directory` that each of them "
                "sees, or `refit()` the configuration."
            )

    def refit(self, seeds: int = 1) -> list[tuple[keras.Model, float]]:
        """The best configuration, trained again from fresh weights.

        The score of the best of many noisy trials is too good. These are not chosen
        by their scores: their mean is what to expect of the configuration.

        With `Budget(minutes=, refits=)` they end within the minutes if the search has
        just returned: one that takes longer than its share is cut at a batch's end, and
        has the weights of its best epoch until then.

        Args:
            seeds: How many times, each with a seed of its own.

        Returns:
            A model and its score for each seed; fewer if the minutes are used up.

        Raises:
            RuntimeError: If these results were not returned by a search, or if the
                minutes do not suffice for an epoch.
        """
        from kopt.tuning._trials import records
        from kopt.tuning._trials.clock import Clock, OutOfTime
        from kopt.tuning._trials.errors import SearchError
        from kopt.tuning._trials.run import refitted

        _checks.integer("seeds", seeds, low=1)
        if self.task is None:
            raise SearchError(
                "Results that were opened from a folder do not know the data. Call "
                "kopt.tuning.tune with the arguments of the search (it trains nothing "
                "if the budget is used up), and `refit` what it returns."
            )
        found = []
        for place in range(seeds):
            seed = records.seeds(self.task.seed, _SEEDS_OF_REFITS + place)[1]
            clock = (self.clock or Clock(Budget(trials=1))).of_refit(seeds - place)
            try:
                outcome = refitted(self.task, self.best_values, seed, clock)
            except OutOfTime:
                break
            found.append((outcome.model, outcome.score))
        if not found:
            raise SearchError(
                "The minutes of the budget were used up before the first epoch of a "
                "refit had ended. Give the search more `minutes`; `refit` called once "
                "more takes the time that it needs."
            )
        return found

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each trial, for `pandas.DataFrame` or a file.

        With `number`, `state` (`"complete"`, `"pruned"`, `"failed"`, `"cut off"`,
        `"running"`, `"waiting"`, or `"withdrawn"` for a repetition that another worker
        had begun), `score`, `repeat_of` (the number of the trial whose configuration
        this one repeats), `epochs`, `seconds`, `reason`, and every hyperparameter
        under `"hp:"` and its name.
        """
        from kopt.tuning._trials.rows import rows

        return rows(self.study)

    def to_dataframe(self) -> Any:
        """The rows of `rows()` as a `pandas.DataFrame`, with the configurations' means.

        A column `mean` has for each trial with a score the mean over all trials of its
        configuration, by which configurations that were trained again are ranked, and
        a column `runs` how many these are.

        Raises:
            ImportError: If pandas is not installed.
        """
        pandas = _extras.load("pandas", "tune")
        from kopt.tuning._trials.configurations import best_first

        frame = pandas.DataFrame(self.rows())
        means = {
            run.number: (one.score, len(one.runs))
            for one in best_first(self.study)
            for run in one.runs
        }
        found = [means.get(number, (None, 0)) for number in frame.get("number", ())]
        frame.insert(3, "mean", [mean for mean, _ in found])
        frame.insert(4, "runs", [runs for _, runs in found])
        return frame

    def history(self, number: int) -> dict[str, list[float | None]]:
        """What a trial logged at each epoch; `None` for what was not finite."""
        from kopt.tuning._trials import records

        trial = self.study.get_trials(deepcopy=False)[number]
        return dict(trial.user_attrs.get(records.HISTORY, {}))

    def importance(self) -> dict[str, float]:
        """How much of the differences between scores each hyperparameter explains.

        The share of variance by functional analysis (fANOVA) over the complete trials,
        largest first; of names that all of them have.

        F. Hutter, H. Hoos and K. Leyton-Brown, "An Efficient Approach for Assessing
        Hyperparameter Importance" (2014), ICML.

        Raises:
            RuntimeError: If fewer than two complete trials have different scores.
        """
        importance = _extras.load("optuna.importance", "tune")
        from kopt.tuning._trials.configurations import best_first
        from kopt.tuning._trials.errors import SearchError

        if len({one.score for one in best_first(self.study)}) < 2:
            raise SearchError(
                "Importance needs at least two complete trials with different scores. "
                "Give the search a larger budget."
            )
        evaluator = importance.FanovaImportanceEvaluator(seed=0)
        found = importance.get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def why(self) -> list[str]:
        """What the search decided, and for what reason, in order."""
        from kopt.tuning._trials.study import said

        return said(self.study)

    def __str__(self) -> str:
        from kopt.tuning._trials import records
        from kopt.tuning._trials.configurations import best_first

        lines: list[tuple[str, ...]] = [
            ("trial", "score", "runs", "seconds", "hyperparameters")
        ]
        for one in best_first(self.study)[:_SHOWN]:
            attributes = one.first.user_attrs
            values = attributes.get(records.VALUES, {})
            shown = ", ".join(f"{name}={_short(v)}" for name, v in values.items())
            seconds = f"{attributes.get(records.SECONDS, 0.0):.1f}"
            number, runs = str(one.first.number), str(len(one.runs))
            lines.append((number, f"{one.score:.4f}", runs, seconds, shown))
        if all(line[2] == "1" for line in lines[1:]):
            lines = [(*line[:2], *line[3:]) for line in lines]
        return _text_table.table(lines, left=(len(lines[0]) - 1,))


def _without_training(path: Path, error: Exception) -> keras.Model:
    """A model whose loss or metrics are the user's own, to predict with."""
    model = keras.saving.load_model(path, compile=False)
    warnings.warn(
        f"The model is not compiled: {str(error).splitlines()[0]} Compile it, or "
        "register what is your own with keras.saving.register_keras_serializable, "
        "to evaluate it or train on.",
        stacklevel=3,
    )
    return model


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
