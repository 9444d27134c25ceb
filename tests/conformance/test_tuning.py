"""What every hypermodel of kopt.tuning keeps to."""

import random

import keras
import keras_tuner
import numpy as np
import optuna
import pytest

import kopt
from kopt.tuning._samplers.seeded import SeededSampler
from kopt.tuning._strategy import PrunerStrategy, SamplerStrategy
from tests.sampling import sampled
from tests.test_public_api import issubclass_of

NAMES = [
    name
    for name in kopt.tuning.__all__
    if isinstance(getattr(kopt.tuning, name), type)
    and issubclass(getattr(kopt.tuning, name), keras_tuner.HyperModel)
]
IMAGE = (8, 8, 1)


@pytest.fixture(params=NAMES)
def make(request):
    return getattr(kopt.tuning, request.param)


class RecordingModel:
    """Takes the place of a model in `fit`, and keeps what it was called with."""

    def fit(self, x, *args, **arguments):
        self.batch_size = arguments["batch_size"]
        self.schedules = [
            keras.saving.serialize_keras_object(value)
            for callback in arguments["callbacks"]
            for value in vars(callback).values()
            if isinstance(value, keras.optimizers.schedules.LearningRateSchedule)
        ]


def fingerprint(hypermodel, hp):
    """All that a trial's values can change: network, optimizer, training."""
    model = hypermodel.build(hp)
    recorder = RecordingModel()
    hypermodel.fit(hp, recorder, np.zeros((4, *IMAGE), "float32"), np.zeros(4))
    return (
        [(layer.__class__, layer.get_config()) for layer in model.layers],
        model.optimizer.__class__,
        model.optimizer.get_config(),
        recorder.batch_size,
        recorder.schedules,
    )


def copy_with(hp, **values):
    copied = hp.copy()
    copied.values.update(values)
    return copied


def drawn(space, seed):
    """A point of a space, drawn as the stock random tuner draws it."""
    hp, generator = space.copy(), random.Random(seed)
    hp.values = {}
    for entry in hp.space:
        if hp.is_active(entry):
            hp.values[entry.name] = entry.random_sample(generator.randrange(10_000))
    return hp


def test_hypermodels_are_found():
    assert {"HyperMLP", "HyperCNN"} <= set(NAMES)


@pytest.mark.parametrize("level", ["small", "full"])
def test_space_is_whole_before_the_first_model(make, level):
    hypermodel = make(IMAGE, classes=10, level=level)
    hp = hypermodel.space(level)
    before = [entry.name for entry in hp.space]
    hypermodel.build(hp)
    hypermodel.fit(hp, RecordingModel(), np.zeros((4, *IMAGE)), np.zeros(4))
    assert [entry.name for entry in hp.space] == before
    assert "batch_size" in before


def test_full_space_holds_the_small_one(make):
    hypermodel = make(IMAGE, classes=10)
    small, full = hypermodel.space("small"), hypermodel.space("full")
    assert {entry.name for entry in small.space} < {entry.name for entry in full.space}


def test_every_hyperparameter_changes_something(make):
    hypermodel = make(IMAGE, classes=10, level="full")
    # From a point at which each matters: one layer cannot taper.
    start = copy_with(hypermodel.space("full"), depth=2, regularizer="l2", width=64)
    start.values["regularizer_factor"] = 1e-5
    before = fingerprint(hypermodel, start)
    for entry in start.space:
        now = start.values[entry.name]
        other = next(value for value in entry.values if value != now)
        changed = fingerprint(hypermodel, copy_with(start, **{entry.name: other}))
        assert changed != before, f"{entry.name}={other} is the same as {now}"


@pytest.mark.parametrize("seed", sampled(range(3), [0]))
def test_any_point_of_the_full_space_trains(make, seed):
    hypermodel = make(IMAGE, classes=3, level="full", widths=(8, 16), depths=(1, 2))
    hp = drawn(hypermodel.space(), seed)
    model = hypermodel.build(hp)
    x = np.random.default_rng(seed).normal(size=(32, *IMAGE)).astype("float32")
    y = np.arange(32) % 3
    history = hypermodel.fit(hp, model, x, y, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    np.testing.assert_allclose(model.predict(x, verbose=0).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("seed", sampled(range(3), [0]))
def test_no_network_is_larger_than_the_limit(make, seed):
    smallest = make(IMAGE, classes=10, level="full")
    with pytest.raises(ValueError, match="`size_limit` must be a whole number") as info:
        make(IMAGE, classes=10, level="full", size_limit=1)
    limit = int(str(info.value).split("at least ")[1].split(".")[0])
    hypermodel = make(IMAGE, classes=10, level="full", size_limit=limit)
    hp = drawn(smallest.space(), seed)
    hp.values.update(width=smallest.widths[-1], depth=smallest.depths[-1])
    assert smallest.build(hp).count_params() > limit
    assert hypermodel.build(hp).count_params() <= limit


def test_limit_leaves_a_network_alone_that_fits(make):
    free = make(IMAGE, classes=10)
    hp = free.space()
    size = free.build(hp).count_params()
    assert make(IMAGE, classes=10, size_limit=size).values(hp) == free.values(hp)
    smaller = make(IMAGE, classes=10, size_limit=size - 1)
    assert smaller.build(hp).count_params() < size


def test_same_seed_gives_the_same_weights(make):
    x = np.random.default_rng(0).normal(size=(32, *IMAGE)).astype("float32")
    y = np.arange(32) % 3
    trained = []
    for _ in range(2):
        hypermodel = make(IMAGE, classes=3, seed=5)
        hp = copy_with(hypermodel.space(), dropout=0.5)
        model = hypermodel.build(hp)
        hypermodel.fit(hp, model, x, y, verbose=0)
        trained.append(model.get_weights())
        keras.utils.set_random_seed(99)  # what another trial might leave behind
    for first, second in zip(*trained, strict=True):
        np.testing.assert_array_equal(first, second)


def test_runs_of_one_trial_differ(make):
    x, y = np.ones((8, *IMAGE), "float32"), np.arange(8) % 3
    hypermodel = make(IMAGE, classes=3, seed=5)
    hp = hypermodel.space()
    first = hypermodel.build(hp).get_weights()[0]
    hypermodel.fit(hp, hypermodel.build(hp), x, y, verbose=0)
    assert not np.array_equal(hypermodel.build(hp).get_weights()[0], first)


def test_regression_predicts_numbers(make):
    hypermodel = make(IMAGE, targets=2)
    model = hypermodel.build(hypermodel.space())
    assert model.output_shape == (None, 2)
    assert (model.predict(-np.ones((1, *IMAGE)), verbose=0) != 0).any()
    x, y = np.ones((8, *IMAGE), "float32"), np.full((8, 2), -3.0, "float32")
    history = hypermodel.fit(hypermodel.space(), model, x, y, epochs=2, verbose=0)
    assert "mae" in history.history


def test_own_loss_and_metrics_are_used(make):
    hypermodel = make(
        IMAGE,
        classes=3,
        loss="categorical_crossentropy",
        metrics=[keras.metrics.F1Score(average="macro")],
        batch_sizes=None,
    )
    x, y = np.ones((6, *IMAGE), "float32"), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    hp = hypermodel.space()
    history = hypermodel.fit(hp, hypermodel.build(hp), x, y, batch_size=6, verbose=0)
    assert "f1_score" in history.history
    assert "accuracy" not in history.history


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either `classes`"),
        ({"classes": 3, "targets": 1}, "either `classes`"),
        ({"classes": 1}, "`classes` must be a whole number of at least 2"),
        ({"targets": 0}, "`targets` must be a whole number of at least 1"),
        ({"classes": 3, "level": "huge"}, "`level` must be one of 'small', 'full'"),
        ({"classes": 3, "optimizers": ("adamm",)}, "`optimizers` must be one of"),
        ({"classes": 3, "widths": ()}, "`widths` must have at least one entry"),
        ({"classes": 3, "depths": (0,)}, "`depths` must be a whole number"),
        ({"classes": 3, "batch_sizes": (0,)}, "`batch_sizes` must be a whole number"),
        ({"classes": 3, "schedule_epochs": 0}, "`schedule_epochs` must be"),
        ({"classes": 3, "seed": -1}, "`seed` must be"),
    ],
)
def test_wrong_arguments_are_refused_with_the_rule(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(IMAGE, **arguments)


# Samplers and pruners

SAMPLERS = [
    name
    for name in kopt.tuning.__all__
    if issubclass_of(getattr(kopt.tuning, name), SamplerStrategy) and name != "Optuna"
]
PRUNERS = [
    name
    for name in kopt.tuning.__all__
    if issubclass_of(getattr(kopt.tuning, name), PrunerStrategy) and name != "Optuna"
]


def mixed_space(trial):
    """All kinds of parameters, one of them conditional."""
    value = trial.suggest_float("rate", 1e-4, 1, log=True)
    value += trial.suggest_int("units", 1, 64, log=True)
    if trial.suggest_categorical("kind", ["plain", "deep"]) == "deep":
        value += trial.suggest_int("depth", 2, 8, step=2)
    return value + trial.suggest_float("share", 0, 1, step=0.25)


def stepped_space(trial):
    return trial.suggest_int("a", 1, 9) + trial.suggest_float("b", 0, 1, step=0.25)


def searched(name, space, trials, seed=0):
    study = optuna.create_study()
    study.sampler = SeededSampler(getattr(kopt.tuning, name)(), seed, study)
    study.optimize(space, trials)
    return [trial.params for trial in study.trials]


def test_samplers_and_pruners_are_found():
    assert {"Bayesian", "Grid", "Random", "Sobol", "TPE"} <= set(SAMPLERS)
    assert {"ASHA", "Hyperband", "Median"} <= set(PRUNERS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_one_of_optunas(name):
    sampler = getattr(kopt.tuning, name)().sampler(seed=1)
    assert isinstance(sampler, optuna.samplers.BaseSampler)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_repeats_itself_by_its_seed(name):
    space = stepped_space if name == "Grid" else mixed_space
    first = searched(name, space, 16)
    assert searched(name, space, 16) == first
    if name != "Grid":
        assert searched(name, space, 16, seed=1) != first


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_stays_in_its_ranges(name):
    if name == "Grid":
        return  # has no ranges without steps
    for params in searched(name, mixed_space, 24):
        assert 1e-4 <= params["rate"] <= 1
        assert params["units"] in range(1, 65)
        assert ("depth" in params) == (params["kind"] == "deep")
        assert params.get("depth", 2) in (2, 4, 6, 8)
        assert params["share"] in (0, 0.25, 0.5, 0.75, 1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_never_proposes_a_configuration_twice(name):
    found = searched(name, stepped_space, 45)
    assert len({tuple(sorted(one.items())) for one in found}) == 45


@pytest.mark.parametrize("name", [*SAMPLERS, *PRUNERS])
def test_a_strategy_shows_its_arguments(name):
    strategy = getattr(kopt.tuning, name)()
    again = eval(repr(strategy), vars(kopt.tuning))
    assert vars(again) == vars(strategy)


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruner_is_one_of_optunas(name):
    study = optuna.create_study()
    pruner = getattr(kopt.tuning, name)().pruner(epochs=9, study=study)
    assert isinstance(pruner, optuna.pruners.BasePruner)
