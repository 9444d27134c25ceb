import keras_tuner
import numpy as np
import optuna
import pytest
from keras_tuner.engine import hyperparameters as kinds

from kopt.tuning._trials.finite import cardinality, enumerated
from kopt.tuning._trials.questions import question


@pytest.fixture
def trial():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return study.ask()


def values(hyperparameter):
    """All values that a finite hyperparameter can get."""
    asked = question(hyperparameter)
    return [asked.value(one) for one in enumerated(asked.distribution)]


FINITE = {
    "whole numbers": (kinds.Int("a", 2, 5), [2, 3, 4, 5]),
    "whole steps": (kinds.Int("a", 6, 13, step=3), [6, 9, 12]),
    "factors": (kinds.Int("a", 2, 32, step=2, sampling="log"), [2, 4, 8, 16, 32]),
    "real steps": (kinds.Float("a", 0, 1, step=0.2), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    "a step that rounds": (
        kinds.Float("a", 0.0, 0.5, step=0.1),
        [0, 0.1, 0.2, 0.3, 0.4, 0.5],
    ),
    "real factors": (
        kinds.Float("a", 0.001, 10, step=10, sampling="log"),
        [0.001, 0.01, 0.1, 1, 10],
    ),
    "mirrored factors": (
        kinds.Float("a", 1, 100, step=10, sampling="reverse_log"),
        [100, 91, 1],
    ),
    "ordered choice": (kinds.Choice("a", [1, 4, 9]), [1, 4, 9]),
    "choice": (kinds.Choice("a", ["x", "y"]), ["x", "y"]),
    "boolean": (kinds.Boolean("a"), [False, True]),
    "one value": (kinds.Int("a", 3, 3), [3]),
}


@pytest.mark.parametrize("case", FINITE)
def test_the_values_are_those_that_keras_tuner_promises(case):
    hyperparameter, expected = FINITE[case]
    assert values(hyperparameter) == pytest.approx(expected)
    assert cardinality(question(hyperparameter).distribution) == len(expected)


@pytest.mark.parametrize("case", FINITE)
def test_the_way_back_leads_to_what_is_drawn(case):
    asked = question(FINITE[case][0])
    for drawn in enumerated(asked.distribution):
        assert asked.parameter(asked.value(drawn)) == pytest.approx(drawn)


def test_order_is_kept_where_there_is_one():
    ordered = question(kinds.Choice("a", [1, 4, 9])).distribution
    assert isinstance(ordered, optuna.distributions.IntDistribution)
    unordered = question(kinds.Choice("a", [1, 4, 9], ordered=False)).distribution
    assert isinstance(unordered, optuna.distributions.CategoricalDistribution)


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
def test_ranges_are_as_dense_as_keras_tuners(sampling):
    hyperparameter = kinds.Float("a", 0.1, 10, sampling=sampling)
    asked = question(hyperparameter)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [asked.ask(study.ask(), "a") for _ in range(2000)]
    shares = np.linspace(0.05, 0.95, 10)
    theirs = [hyperparameter.prob_to_value(share) for share in shares]
    # Three standard deviations of a share of 2000 draws are 0.033 at most.
    found = [np.mean(np.array(drawn) < value) for value in theirs]
    np.testing.assert_allclose(found, shares, atol=0.035)


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
def test_whole_numbers_stay_in_their_range(sampling):
    asked = question(kinds.Int("a", 1, 6, sampling=sampling))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {asked.ask(study.ask(), "a") for _ in range(200)}
    assert drawn == {1, 2, 3, 4, 5, 6}


def test_a_kind_that_is_not_known_is_refused(trial):
    class Other(kinds.HyperParameter):
        pass

    with pytest.raises(TypeError, match="must be an Int, a Float, a Choice"):
        question(Other("a"))


def test_scopes_of_a_name_are_in_the_hyperparameter():
    hp = keras_tuner.HyperParameters()
    with hp.name_scope("head"):
        hp.Int("units", 1, 2)
    assert values(hp.space[0]) == [1, 2]
