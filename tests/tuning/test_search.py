"""The hypermodels in the tuners that Keras Tuner ships, on real digits."""

import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner.errors import FatalValueError

import kopt

pytestmark = [pytest.mark.slow, pytest.mark.real]
SMALL = {"widths": (16, 32), "depths": (1, 2), "batch_sizes": (16, 32), "seed": 1}


def mlp(**arguments):
    arguments = {**SMALL, "optimizers": ("adamw", "sgd"), **arguments}
    return kopt.tuning.HyperMLP((64,), classes=10, **arguments)


def scores(tuner):
    return {name: trial.score for name, trial in tuner.oracle.trials.items()}


def values(tuner):
    return [dict(t.hyperparameters.values) for t in tuner.oracle.trials.values()]


# Two trials are too few for a Gaussian process, and scikit-learn says so.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("tuner", "arguments"),
    [
        pytest.param(keras_tuner.RandomSearch, {}, marks=pytest.mark.thorough),
        pytest.param(keras_tuner.GridSearch, {}, marks=pytest.mark.thorough),
        (keras_tuner.BayesianOptimization, {"max_trials": 2, "num_initial_points": 1}),
    ],
)
def test_search_learns_and_its_best_model_keeps_its_score(
    make_tuner, search, digits, tuner, arguments
):
    done = search(make_tuner(mlp(), tuner, **arguments), epochs=4)
    assert all(t.status == "COMPLETED" for t in done.oracle.trials.values())
    best = done.oracle.get_best_trials()[0].score
    assert best > 0.3  # a tenth is chance
    (model,) = done.get_best_models()
    assert model.evaluate(*digits[1], verbose=0)[1] == pytest.approx(best, abs=1e-6)


@pytest.mark.thorough
def test_images_are_searched_too(make_tuner, digits):
    (x, y), (x_validation, y_validation) = digits
    hypermodel = kopt.tuning.HyperCNN(
        (8, 8, 1), classes=10, optimizers=("adamw",), **{**SMALL, "widths": (8,)}
    )
    tuner = make_tuner(hypermodel)
    tuner.search(
        x.reshape(-1, 8, 8, 1),
        y,
        validation_data=(x_validation.reshape(-1, 8, 8, 1), y_validation),
        epochs=6,
        verbose=0,
    )
    assert tuner.oracle.get_best_trials()[0].score > 0.2


def test_space_of_the_first_trial_is_the_space_of_the_last(make_tuner, search):
    tuner = make_tuner(mlp())
    before = [entry.name for entry in tuner.oracle.get_space().space]
    search(tuner)
    assert [entry.name for entry in tuner.oracle.get_space().space] == before
    assert all(set(before) == set(found) for found in values(tuner))


def test_first_trials_batch_size_is_drawn(tmp_path):
    drawn = set()
    for seed in range(1, 9):
        tuner = keras_tuner.RandomSearch(
            mlp(), "val_loss", max_trials=1, seed=seed, directory=tmp_path / str(seed)
        )
        trial = tuner.oracle.create_trial("tuner0")
        drawn.add(trial.hyperparameters.values["batch_size"])
    assert drawn == {16, 32}


def test_resumed_search_equals_one_that_was_never_stopped(make_tuner, search):
    whole = search(make_tuner(mlp(), project_name="whole", max_trials=3))
    search(make_tuner(mlp(), project_name="halves", max_trials=1))
    resumed = search(make_tuner(mlp(), project_name="halves", max_trials=3))
    assert len(scores(resumed)) == 3
    assert values(resumed) == values(whole)
    assert scores(resumed) == scores(whole)


def test_executions_of_a_trial_start_from_different_weights(make_tuner, search):
    seen = []

    class Watched(kopt.tuning.HyperMLP):
        def fit(self, hp, model, *args, **kwargs):
            seen.append(model.get_weights()[0])
            return super().fit(hp, model, *args, **kwargs)

    hypermodel = Watched((64,), classes=10, **SMALL)
    search(make_tuner(hypermodel, max_trials=1, executions_per_trial=2))
    assert len(seen) == 2
    assert not np.array_equal(*seen)


def test_hyperbands_promotions_keep_the_optimizers_state(make_tuner, search):
    found = []

    class Watched(kopt.tuning.HyperMLP):
        def fit(self, hp, model, *args, **kwargs):
            start = hp.values["tuner/initial_epoch"]
            moments = [v for v in model.optimizer.variables if "momentum" in v.path]
            size = max(float(np.abs(moment).max()) for moment in moments)
            found.append((start, int(model.optimizer.iterations), size))
            return super().fit(hp, model, *args, **kwargs)

    hypermodel = Watched((64,), classes=10, optimizers=("adam",), **SMALL)
    tuner = make_tuner(
        hypermodel,
        keras_tuner.Hyperband,
        max_epochs=2,
        factor=2,
        hyperband_iterations=1,
    )
    search(tuner)
    assert tuner.oracle.get_best_trials()[0].score > 0.3
    promoted = [(steps, size) for start, steps, size in found if start > 0]
    fresh = [(steps, size) for start, steps, size in found if start == 0]
    assert promoted and all(steps > 0 and size > 0 for steps, size in promoted)
    assert fresh and all(steps == 0 and size == 0 for steps, size in fresh)


def test_a_limit_on_the_size_never_fails_a_trial(make_tuner, search):
    too_wide = keras_tuner.HyperParameters()
    too_wide.Fixed("width", 512)
    hypermodel = mlp(widths=(8, 512), depths=(1, 4), size_limit=800)
    tuner = search(make_tuner(hypermodel, max_trials=2, hyperparameters=too_wide))
    trials = tuner.oracle.trials.values()
    assert [trial.status for trial in trials] == ["COMPLETED"] * 2
    assert all(m.count_params() <= 800 for m in tuner.get_best_models(2))


def test_what_the_user_fixed_stays_fixed(make_tuner, search):
    mine = keras_tuner.HyperParameters()
    mine.Fixed("optimizer", "sgd")
    mine.Fixed("batch_norm", True)  # not in the small space, and honoured all the same
    tuner = search(make_tuner(mlp(), hyperparameters=mine))
    assert {found["optimizer"] for found in values(tuner)} == {"sgd"}
    (model,) = tuner.get_best_models()
    assert isinstance(model.optimizer, kopt.SGD)
    assert any("batch_norm" in layer.name for layer in model.layers)


def test_data_sets_are_batched_anew(digits):
    sizes = []
    hypermodel = mlp()
    hp = hypermodel.space()
    hp.values["batch_size"] = 64

    class Recorder:
        def fit(self, x, **arguments):
            sizes.extend(int(batch.shape[0]) for batch, _ in x)
            assert "batch_size" not in arguments

    hypermodel.fit(
        hp, Recorder(), tf.data.Dataset.from_tensor_slices(digits[0]).batch(7)
    )
    assert set(sizes[:-1]) == {64}
    assert sum(sizes) == 600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"batch_size": 8}, "Leave it out of `search"), ({}, "for arrays and")],
)
def test_batch_sizes_that_cannot_be_searched_end_the_search(
    make_tuner, digits, arguments, message
):
    train, validation = digits
    data = train if arguments else (iter([train]),)
    with pytest.raises(FatalValueError, match=message):
        make_tuner(mlp()).search(*data, validation_data=validation, **arguments)
