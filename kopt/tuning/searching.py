"""The verb `tune`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner

from kopt._registry import register
from kopt.tuning.budget import Budget
from kopt.tuning.results import Results
from kopt.tuning.tuner import Tuner


@register("tuning", serializable=False)
def tune(
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
) -> Results:
    """Search for the hyperparameters of a Keras model, on one machine or on many.

    Build functions and hypermodels written for Keras Tuner are taken as they are.
    Hyperparameters are drawn when the model asks for them, so that conditional scopes
    and values that `HyperModel.fit` asks for are searched from the first trial on.

    The study is Optuna's, in a SQLite file in the folder, and nothing else knows
    anything about the search: it can be killed at any moment. The same call goes on
    where it was; a trial that was cut off runs again with its own seed, and a search
    that was interrupted proposes and scores on one processor what an uninterrupted one
    does. Seeds of Python, NumPy and TensorFlow are set before each trial.

    The same call from several processes is one search, as wide as they are many: on
    one machine as it is, on several with a `storage` that all of them reach and,
    better, a `directory` that all of them see. The budget is that of the whole search,
    and each call returns when the search has ended. Workers may come, go, be killed
    and be frozen at any time: exactly the trials of the budget count, none twice.

    A trial with a score that is not finite, without memory or with an error in the
    model counts as failed; its reason is kept and the search goes on. Ten failures in
    a row end it.

    Args:
        model_or_build: A function of `hp` that returns a compiled model, or a
            `keras_tuner.HyperModel`.
        data: Training data: `(x, y)` or `(x, y, sample_weight)` of arrays or dicts of
            them; a `tf.data.Dataset` or `keras.utils.PyDataset`; a dict of arguments of
            `fit` with an `"x"`; or a function of nothing, or of `hp`, that returns one.
        objective: A name as `fit` logs it, such as `"val_accuracy"`; its direction
            comes from `kopt.tuning.objective`, which makes one for metrics of your own.
            Or a `kopt.tuning.FromPredictions`, for what needs all of the validation
            data at once.
        budget: A `kopt.tuning.Budget`: how much the search may cost.
        sampler: What chooses configurations: `"auto"`, `Grid()`, `Random()`, `Sobol()`,
            `TPE()`, `Bayesian()` or `Optuna(...)`. `"auto"` takes the usual
            configuration of a kopt hypermodel first, a grid where the space is no
            larger than the budget, Sobol points for fewer than 8 trials, and Bayesian
            and TPE by turns otherwise; `Results.why()` has its reasons.
        pruner: What stops trials early: `ASHA()`, `Hyperband()`, `Median()`,
            `Optuna(...)`, or `None` for nothing.
        storage: Where the study is kept: an address such as
            `"postgresql+psycopg://user@host:5432/database"`, or a storage of Optuna.
            Defaults to a SQLite file in the folder, for workers on one machine.
        name: Name of the study. Several can share a folder.
        directory: Folder of the study and of the best models.
        initial: Configurations to begin with, as dicts of values by name. Names that
            are left out are drawn.
        score: A trial's score: the objective of its `"best"` epoch, of the `"last"`
            one, or the mean of so many last ones. The best of noisy epochs is too good.
            It is written down in the study, and a search goes on only with the same.
        seed: Seed of the search.
        callbacks: Callbacks, copied for each trial, or a function of Optuna's trial
            that makes them, such as a `kopt.tuning.TensorBoard`. What copies of Keras's
            own callbacks write to a path goes to a folder of the trial there. A
            function finds the hyperparameters by name in
            `trial.user_attrs["kopt:values"]`.
        keep: How many of the best models are kept as files.
        confirm: How often the leading three configurations are trained again, with
            fresh seeds, before the best of their means wins: the best of many noisy
            scores is too good, and not always of the best configuration. These trials
            are part of the budget. `"auto"` repeats them once where the budget has 40
            trials or more (or where as many fit into its minutes or epochs), and not at
            all otherwise, where they would take more than they give. If the first
            repeat shows that seeds change nothing, the others are left out. `0` for
            never.
        progress: Whether the trials of all workers are shown as they go: `True` for a
            live table in a terminal and a line for each trial elsewhere, `False` for
            nothing, `None` for the table alone. Or a `rich.console.Console`.
        n_jobs: Workers on this machine. With more than one they are processes that
            this one starts, each with its share of the cores and a GPU of its own; it
            watches over them and replaces those that end.
        grace: Seconds without a sign of life after which a worker's trial runs again
            elsewhere. A worker that was only late goes on with another trial.
        **fit_arguments: Further arguments of `fit`, such as `epochs`,
            `validation_data` or `validation_split`. `verbose` is 0 unless given.

    Returns:
        The `Results`.

    Raises:
        OSError: If the storage cannot be used, or has been away for ten minutes.
        RuntimeError: If ten trials in a row fail, or if the study is about another
            objective, direction, seed or version of the data.
        TypeError: If a model, a sampler or a pruner is none, or if something cannot be
            sent to the workers of `n_jobs`.
        ValueError: If the objective is never logged, if the space is empty, larger than
            a grid's budget or not the one of the study.

    Example:

    >>> x = np.linspace(0, 1, 32).reshape(-1, 1)
    >>> def build(hp):
    ...     rate = hp.Choice("rate", [1e-6, 0.5])
    ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    ...     model.compile(keras.optimizers.SGD(rate), "mse")
    ...     return model
    >>> results = kopt.tuning.tune(
    ...     build, (x, 3 * x), objective="loss", budget=kopt.tuning.Budget(trials=5),
    ...     epochs=3,
    ... )
    >>> results.best_values, len(results.rows())
    ({'rate': 0.5}, 2)
    """
    called = time.monotonic()
    tuner = Tuner(
        model_or_build,
        data,
        objective=objective,
        budget=budget,
        sampler=sampler,
        pruner=pruner,
        storage=storage,
        name=name,
        directory=directory,
        initial=initial,
        score=score,
        seed=seed,
        callbacks=callbacks,
        keep=keep,
        confirm=confirm,
        progress=progress,
        n_jobs=n_jobs,
        grace=grace,
        **fit_arguments,
    )
    tuner.called = called
    return tuner.search()
