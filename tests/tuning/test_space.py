import itertools

import optuna
import pytest

from kopt._keras.asked_values import AskedHyperParameters
from kopt.tuning._trials.errors import SpaceError
from kopt.tuning._trials.space import Space


@pytest.fixture
def study():
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def meet(study, function, trials=1):
    """A space after some trials of a function of `hp`."""
    space = Space(study)
    for _ in range(trials):
        trial = study.ask()
        function(AskedHyperParameters(lambda asked, t=trial: space.ask(t, asked)))
        study.tell(trial, 0.0)
    return space


def conditional(hp):
    hp.Choice("kind", ["mlp", "cnn"])
    with hp.conditional_scope("kind", ["mlp"]):
        hp.Int("units", 1, 5)
    with hp.conditional_scope("kind", ["cnn"]):
        hp.Int("units", 1, 9)
        hp.Boolean("deep")
        with hp.conditional_scope("deep", [True]):
            hp.Choice("rate", [0.1, 0.2, 0.3])


def test_names_are_kept_in_the_order_in_which_they_are_met(study):
    space = meet(
        study, lambda hp: (hp.Int("b", 1, 2), hp.Fixed("c", 3), hp.Int("a", 1, 2))
    )
    assert space.names() == ["b", "a"]
    assert Space(study).names() == ["b", "a"]


def test_values_are_those_of_optunas_trials(study):
    seen = []
    meet(study, lambda hp: seen.append(hp.Int("units", 1, 9)), trials=5)
    assert seen == [trial.params["units"] for trial in study.trials]
    assert len(set(seen)) > 1


def test_one_name_under_two_conditions_is_two_parameters(study):
    meet(study, conditional, trials=20)
    for trial in study.trials:
        names = {name for name in trial.params if name.startswith("units")}
        assert len(names) == 1
    found = {name for trial in study.trials for name in trial.params}
    assert {"units", "units (2)"} <= found


def test_the_number_of_configurations_is_exact_for_conditional_scopes(study):
    space = meet(study, conditional, trials=20)
    assert space.size() == 5 + 9 * (1 + 3)


def test_the_number_of_configurations_is_the_product_without_conditions(study):
    space = meet(
        study,
        lambda hp: (hp.Int("a", 1, 4), hp.Float("b", 0, 1, step=0.5), hp.Boolean("c")),
    )
    everything = itertools.product(range(4), range(3), range(2))
    assert space.size() == len(list(everything))


def test_a_range_without_steps_has_no_number(study):
    space = meet(study, lambda hp: (hp.Int("a", 1, 4), hp.Float("rate", 0, 1)))
    assert space.size() is None
    assert space.endless_names() == ["rate"]


def test_a_range_that_depends_on_another_value_is_taken(study):
    space = meet(study, lambda hp: hp.Int("b", 1, 1 + hp.Int("a", 1, 9)), trials=9)
    assert space.size() is None
    assert all(t.params["b"] <= 1 + t.params["a"] for t in study.trials)


def test_a_changed_range_is_refused_when_a_study_is_taken_up_again(study):
    meet(study, lambda hp: hp.Int("units", 1, 9), trials=2)
    with pytest.raises(
        SpaceError, match=r"'units'.*high=9.*start a study with another"
    ):
        meet(study, lambda hp: hp.Int("units", 1, 10))


def test_a_range_that_moved_before_may_move_again(study):
    meet(study, lambda hp: hp.Int("b", 1, 1 + hp.Int("a", 1, 9)), trials=9)
    meet(study, lambda hp: hp.Int("b", 1, 20 + hp.Int("a", 1, 9)))


@pytest.mark.parametrize(
    "other",
    [
        lambda hp: hp.Choice("units", ["few", "many", "more"]),
        lambda hp: hp.Int("units", 1, 9),
        lambda hp: hp.Fixed("units", 3),
    ],
)
def test_another_kind_under_the_same_name_is_refused(study, other):
    space = Space(study)
    for function in (lambda hp: hp.Choice("units", ["few", "many"]), other):
        trial = study.ask()
        hp = AskedHyperParameters(lambda asked, t=trial: space.ask(t, asked))
        if function is other:
            with pytest.raises(SpaceError, match="give each its own"):
                function(hp)
        else:
            function(hp)
