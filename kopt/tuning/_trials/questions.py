"""Keras Tuner's hyperparameters as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_tuner.engine import hyperparameters as kinds
from optuna import distributions
from optuna.trial import Trial


class Question(NamedTuple):
    """What is drawn for a hyperparameter, how its value follows, and the way back."""

    distribution: distributions.BaseDistribution
    value: Callable[[Any], Any]
    parameter: Callable[[Any], Any]

    def ask(self, trial: Trial, name: str) -> Any:
        """The value of a trial for this hyperparameter, under a name."""
        return self.value(_suggested(trial, name, self.distribution))


def question(hyperparameter: Any) -> Question:
    """The question that a hyperparameter puts to a trial.

    A choice with an order is drawn by its index, and so is a logarithmic range with a
    factor between its values: samplers then see neighbours as neighbours, and the
    space as finite. A range that is denser at its upper end (`"reverse_log"`) is the
    mirror image of a logarithmic one.
    """
    if isinstance(hyperparameter, kinds.Boolean):
        return Question(
            distributions.CategoricalDistribution((False, True)), _same, _same
        )
    if isinstance(hyperparameter, kinds.Choice):
        return _choice(list(hyperparameter.values), hyperparameter.ordered)
    if isinstance(hyperparameter, (kinds.Int, kinds.Float)):
        return _range(hyperparameter)
    raise TypeError(
        f"The hyperparameter {hyperparameter.name!r} must be an Int, a Float, a "
        f"Choice, a Boolean or Fixed. Received: {type(hyperparameter).__name__}."
    )


def _choice(values: list[Any], ordered: bool) -> Question:
    if ordered:
        index = distributions.IntDistribution(0, len(values) - 1)
        return Question(index, lambda place: values[place], values.index)
    return Question(distributions.CategoricalDistribution(values), _same, _same)


def _range(hyperparameter: Any) -> Question:
    low, high = hyperparameter.min_value, hyperparameter.max_value
    step, sampling = hyperparameter.step, hyperparameter.sampling
    whole = isinstance(hyperparameter, kinds.Int)
    if sampling == "linear":
        return Question(_linear(low, high, step, whole), _same, _same)
    if step is not None:
        # A little more, so that rounding does not take the last value away.
        last = math.floor(math.log(high / low) / math.log(step) + 1e-8)
        values = [low * step**place for place in range(last + 1)]
        if sampling == "reverse_log":
            values = [low + high - value for value in values]
        return _choice([int(value) if whole else value for value in values], True)
    logarithmic: distributions.BaseDistribution = (
        distributions.IntDistribution(low, high, log=True)
        if whole
        else distributions.FloatDistribution(low, high, log=True)
    )
    if sampling == "log":
        return Question(logarithmic, _same, _same)

    def mirrored(value: Any) -> Any:
        return low + high - value

    return Question(logarithmic, mirrored, mirrored)


def _linear(
    low: Any, high: Any, step: Any, whole: bool
) -> distributions.BaseDistribution:
    if step is None:
        return distributions.FloatDistribution(low, high)
    last = math.floor((high - low) / step + 1e-8)
    if whole:
        return distributions.IntDistribution(low, low + last * step, step=step)
    # To as many digits as the user may have written.
    return distributions.FloatDistribution(low, round(low + last * step, 12), step=step)


def _suggested(
    trial: Trial, name: str, distribution: distributions.BaseDistribution
) -> Any:
    if isinstance(distribution, distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest: Any = (
        trial.suggest_int
        if isinstance(distribution, distributions.IntDistribution)
        else trial.suggest_float
    )
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    if distribution.log:  # type: ignore[attr-defined]
        return suggest(name, low, high, log=True)
    return suggest(name, low, high, step=distribution.step)  # type: ignore[attr-defined]


def _same(value: Any) -> Any:
    return value
