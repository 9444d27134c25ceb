"""The samplers that `benchmarks/tuning.py` compares, each as a search of a task."""

from __future__ import annotations

import ast
import hashlib
import inspect
import pkgutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import optuna
from _timing import version
from _tuning_tasks import Task

import kopt
from kopt.tuning import _samplers
from kopt.tuning._samplers.auto import Auto
from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._trials.choices import AUTO_REPEATS
from kopt.tuning._trials.space import Space

REFERENCE = "Optuna TPE"
RANDOM = "Optuna random"

# What a search has tried: parameters, the value seen, and milliseconds a proposal.
Tried = list[tuple[dict[str, Any], float, float]]


@dataclass(frozen=True)
class Sampler:
    """A way to search.

    Attributes:
        search: From a task, a seed and a number of trials to what was tried.
        code: What tells versions of it apart, so that old runs are not taken for new.
        seeds: With how many seeds it runs at most; fewer where a proposal takes long.
        usual: Whether it begins with the task's usual configuration.
        study: A study that has it, for the time of a proposal.
        repeats: How often its leading configurations are tried again at the end.
    """

    search: Callable[[Task, int, int], Tried]
    code: str
    seeds: int = 20
    usual: bool = False
    study: Callable[[int], optuna.Study] | None = None
    repeats: int = 0


def samplers() -> dict[str, Sampler]:
    """All of them by name, the most telling ones first."""
    optunas = optuna.samplers
    made = {
        RANDOM: _optunas(optunas.RandomSampler),
        REFERENCE: _optunas(optunas.TPESampler),
        "auto": _kopts(_auto),
        "auto, usual first": _kopts(_auto, usual=True),
        "Bayesian": _kopts(lambda study: kopt.tuning.Bayesian()),
        "Optuna TPE, usual first": _optunas(optunas.TPESampler, usual=True),
        "Bayesian, usual first": _kopts(
            lambda study: kopt.tuning.Bayesian(), usual=True
        ),
        "TPE": _kopts(lambda study: kopt.tuning.TPE()),
        "TPE, confirmed": replace(
            _kopts(lambda study: kopt.tuning.TPE()), repeats=AUTO_REPEATS
        ),
        "Bayesian, confirmed": replace(
            _kopts(lambda study: kopt.tuning.Bayesian()), repeats=AUTO_REPEATS
        ),
        "Optuna GPSampler": _optunas(optunas.GPSampler, seeds=5),
        "Optuna CMA-ES": _optunas(optunas.CmaEsSampler),
        "Sobol": _kopts(lambda study: kopt.tuning.Sobol()),
        "Keras Tuner random": _keras_tuners(keras_tuner.oracles.RandomSearchOracle, 5),
        "Keras Tuner Bayesian": _keras_tuners(
            keras_tuner.oracles.BayesianOptimizationOracle, 2
        ),
    }
    return made


def _auto(study: optuna.Study) -> Auto:
    return Auto(None, Space(study), lambda text: None)


def _kopts(
    make: Callable[[optuna.Study], Any], seeds: int = 20, usual: bool = False
) -> Sampler:
    def studied(seed: int) -> optuna.Study:
        study = optuna.create_study()
        study.sampler = SeededSampler(make(study), seed, study)
        return study

    code = f"Optuna {version('optuna')}, {_fingerprint()}"
    return Sampler(_in_study(studied, usual), code, seeds, usual, studied)


def _optunas(make: Callable[..., Any], seeds: int = 20, usual: bool = False) -> Sampler:
    def studied(seed: int) -> optuna.Study:
        return optuna.create_study(sampler=make(seed=seed))

    code = f"Optuna {version('optuna')}"
    return Sampler(_in_study(studied, usual), code, seeds, usual, studied)


def _in_study(studied: Callable[[int], optuna.Study], usual: bool) -> Any:
    def search(task: Task, seed: int, trials: int) -> Tried:
        study, tried = studied(seed), []
        random = np.random.default_rng([seed, 1])
        if usual and task.usual is not None:
            study.enqueue_trial(dict(task.usual))
        for _ in range(trials):
            # All threads: some samplers start their own.
            started = time.process_time()
            trial = study.ask()
            value = task.seen(trial, random)
            taken = 1000 * (time.process_time() - started)
            study.tell(trial, value)
            tried.append((trial.params, value, taken))
        return tried

    return search


def _keras_tuners(make: Callable[..., keras_tuner.Oracle], seeds: int) -> Sampler:
    def search(task: Task, seed: int, trials: int) -> Tried:
        space = keras_tuner.HyperParameters()
        for _ in range(100):  # Until each branch has been asked for its names.
            space.values = {one.name: one.random_sample() for one in space.space}
            task.seen(_Asked(space), np.random.default_rng(0))
        oracle = make(
            objective=keras_tuner.Objective("value", "min"),
            max_trials=trials,
            # Keras Tuner takes a 0 for no seed.
            seed=seed + 1,
            hyperparameters=space,
            allow_new_entries=False,
        )
        with tempfile.TemporaryDirectory() as folder:
            tuner = _Told(task, seed, oracle, Path(folder))
            tuner.search(verbose=0)
        return tuner.tried

    return Sampler(search, f"Keras Tuner {version('keras-tuner')}", seeds)


class _Asked:
    """Keras Tuner's hyperparameters, asked as a trial of Optuna is."""

    def __init__(self, hp: keras_tuner.HyperParameters):
        self._hp = hp
        self.params: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, log: bool = False):
        how = "log" if log else "linear"
        return self._note(name, self._hp.Float(name, low, high, sampling=how))

    def suggest_int(self, name: str, low: int, high: int, log: bool = False):
        how = "log" if log else "linear"
        return self._note(name, self._hp.Int(name, low, high, sampling=how))

    def suggest_categorical(self, name: str, choices: list[Any]):
        return self._note(name, self._hp.Choice(name, choices, ordered=False))

    def _note(self, name: str, value: Any) -> Any:
        self.params[name] = value
        return value


class _Told(keras_tuner.engine.base_tuner.BaseTuner):
    """A tuner that looks a trial's value up."""

    def __init__(self, task: Task, seed: int, oracle: Any, folder: Path):
        self._task = task
        self._random = np.random.default_rng([seed, 1])
        self.tried: Tried = []
        super().__init__(oracle, lambda hp: None, directory=folder)
        self._ended = time.process_time()

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
        taken = 1000 * (time.process_time() - self._ended)
        asked = _Asked(trial.hyperparameters)
        value = self._task.seen(asked, self._random)
        self.tried.append((asked.params, value, taken))
        self._ended = time.process_time()
        return value

    def on_trial_begin(self, trial: Any) -> None:
        pass

    def on_trial_end(self, trial: Any) -> None:
        self.oracle.end_trial(trial)


def _fingerprint() -> str:
    """Of the code of kopt's samplers, without its comments."""
    modules = [
        Path(folder) / f"{module.name}.py"
        for folder in _samplers.__path__
        for module in pkgutil.iter_modules([folder])
    ]
    classes = (kopt.tuning.Bayesian, kopt.tuning.TPE, kopt.tuning.Sobol)
    modules += [Path(inspect.getfile(one)) for one in classes]
    text = "".join(ast.dump(ast.parse(one.read_text())) for one in sorted(modules))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def proposal_time(sampler: Sampler, trials: int, dimensions: int = 10) -> float:
    """Milliseconds of processor time of a proposal after so many trials."""
    assert sampler.study is not None
    random = np.random.default_rng(0)
    study = sampler.study(0)
    space = {
        f"x{i}": optuna.distributions.FloatDistribution(0, 1) for i in range(dimensions)
    }
    for _ in range(trials):
        params = {name: random.random() for name in space}
        value = sum((one - 0.3) ** 2 for one in params.values())
        value += 0.1 * random.normal()
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=space, value=value)
        )
    times = []
    for _ in range(6):
        started = time.process_time()
        trial = study.ask(space)
        times.append(1000 * (time.process_time() - started))
        study.tell(trial, sum((one - 0.3) ** 2 for one in trial.params.values()))
    # The first one loads what the others use.
    return float(np.median(times[1:]))


warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
