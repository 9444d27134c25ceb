"""Real models: what a search keeps of them."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.tuning._trials.errors import ObjectiveError, SearchError
from tests.tuning.analytic import analytic_search

x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int32")
TRAIN, VALIDATION = (x[:64], y[:64]), (x[64:], y[64:])


def build(hp):
    """As written for Keras Tuner."""
    model = keras.Sequential([keras.Input((4,))])
    for layer in range(hp.Int("layers", 0, 1)):
        model.add(keras.layers.Dense(hp.Int(f"units_{layer}", 8, 32, step=8), "relu"))
        model.add(keras.layers.Dropout(0.2))
    model.add(keras.layers.Dense(2, "softmax"))
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def search(folder, trials=2, data=TRAIN, **arguments):
    return kopt.tuning.tune(
        build,
        data,
        objective="val_loss",
        budget=kopt.tuning.Budget(trials=trials),
        directory=folder,
        **{"validation_data": VALIDATION, "epochs": 3, **arguments},
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return folder, search(folder, keep=2)


def test_the_best_model_has_the_best_score(searched):
    folder, results = searched
    for found in (results, kopt.tuning.Results(folder)):
        model = found.best_model()
        loss, _ = model.evaluate(*VALIDATION, verbose=0)
        assert loss == pytest.approx(found.best_score, rel=1e-5)
    assert results.best_score == min(row["score"] for row in results.rows())


def test_histories_are_kept(searched):
    _, results = searched
    history = results.history(results.best_trial.number)
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert len(history["val_loss"]) == 3
    assert min(history["val_loss"]) == results.best_score


def test_only_the_best_models_stay_on_the_disk(searched):
    folder, results = searched
    assert len(list(folder.glob("*.keras"))) == 2
    # The same search again trains nothing and sweeps nothing of value.
    again = search(folder, keep=2)
    assert again.rows() == results.rows()


def test_a_trial_repeats_its_score_bit_for_bit(searched, tmp_path):
    _, results = searched
    keras.utils.set_random_seed(99)
    again = search(tmp_path, trials=1)
    assert again.rows()[0]["score"] == results.rows()[0]["score"]


def test_the_best_configuration_is_trained_again_with_other_seeds(searched):
    folder, results = searched
    (first, score), (second, other) = results.refit(seeds=2)
    assert score != other
    loss, _ = first.evaluate(*VALIDATION, verbose=0)
    assert loss == pytest.approx(score, rel=1e-5)
    assert first.count_params() == second.count_params()
    with pytest.raises(SearchError, match="do not know the data"):
        kopt.tuning.Results(folder).refit()


def test_a_table_shows_the_best_first(searched):
    _, results = searched
    head, first, *_ = str(results).splitlines()
    assert head.split() == ["trial", "score", "seconds", "hyperparameters"]
    assert first.split()[:2] == [
        str(results.best_trial.number),
        f"{results.best_score:.4f}",
    ]
    assert "rate=" in first


def test_a_metric_that_is_never_logged_fails_after_the_first_epoch(tmp_path):
    with pytest.raises(
        ObjectiveError, match=r"'val_auc' is not logged.*'val_accuracy'"
    ):
        kopt.tuning.tune(
            build,
            TRAIN,
            objective="val_auc",
            budget=kopt.tuning.Budget(trials=2),
            directory=tmp_path,
            validation_data=VALIDATION,
            epochs=50,
        )
    (row,) = kopt.tuning.Results(tmp_path).rows()
    assert (row["state"], row["epochs"]) == ("cut off", 0)


def test_without_validation_data_the_error_says_so(tmp_path):
    with pytest.raises(ObjectiveError, match="give `validation_data`"):
        search(tmp_path, validation_data=None)


@pytest.mark.slow
def test_data_sets_and_functions_of_them_are_taken(tmp_path):
    def batches():
        return tf.data.Dataset.from_tensor_slices(TRAIN).batch(16)

    for number, data in enumerate((batches(), batches, {"x": x, "y": y})):
        results = search(tmp_path / str(number), trials=1, data=data, epochs=1)
        assert results.best_score > 0


class Ticking(keras.callbacks.Callback):
    """Moves a clock by a second at each batch."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def on_train_batch_end(self, batch, logs=None):
        self.watch.seconds += 1


@pytest.mark.slow
def test_a_training_is_cut_between_two_batches(tmp_path, monkeypatch):
    watch = types.SimpleNamespace(seconds=0.0)
    watch.monotonic = lambda: watch.seconds
    monkeypatch.setattr("kopt.tuning._trials.clock.time", watch)
    results = kopt.tuning.tune(
        build,
        TRAIN,
        objective="val_loss",
        budget=kopt.tuning.Budget(minutes=19 / 60),
        directory=tmp_path,
        validation_data=VALIDATION,
        epochs=100,
        batch_size=8,
        callbacks=lambda trial: [Ticking(watch)],
    )
    # Eight batches an epoch: two whole epochs, and three batches of the third.
    assert watch.seconds == 19
    assert results.rows()[0]["epochs"] == 2
    loss, _ = results.best_model().evaluate(*VALIDATION, verbose=0)
    assert loss == pytest.approx(min(results.history(0)["val_loss"]), rel=1e-5)


@pytest.mark.slow
def test_a_share_of_the_data_can_be_the_validation(tmp_path):
    results = search(
        tmp_path, trials=1, data=(x, y), validation_data=None, validation_split=0.25
    )
    assert "val_loss" in results.history(0)


@pytest.mark.slow
def test_a_hypermodel_of_kopt_begins_with_its_usual_configuration(tmp_path):
    results = kopt.tuning.tune(
        kopt.tuning.HyperMLP((4,), classes=2, level="full", batch_sizes=(16, 32)),
        TRAIN,
        objective="val_accuracy",
        budget=kopt.tuning.Budget(trials=2),
        directory=tmp_path,
        validation_data=VALIDATION,
        epochs=2,
    )
    first, second = results.rows()
    assert first["hp:learning_rate_factor"] == 1.0
    assert first["hp:optimizer"] == "adamw"
    assert second["hp:batch_size"] in (16, 32)
    assert results.best_model().count_params() > 0


@pytest.mark.slow
def test_the_score_may_be_that_of_the_last_epochs(tmp_path):
    for score, expected in (("last", lambda v: v[-1]), (2, lambda v: np.mean(v[-2:]))):
        results = search(tmp_path / str(score), trials=1, score=score)
        assert results.best_score == expected(results.history(0)["val_loss"])


def test_importance_is_larger_for_what_matters(tmp_path):
    results = analytic_search(
        lambda hp: [hp.Float("much", 0, 1) + 0.01 * hp.Float("little", 0, 1)],
        tmp_path,
        budget=kopt.tuning.Budget(trials=20),
        sampler=kopt.tuning.Random(),
    )
    importance = results.importance()
    assert list(importance) == ["much", "little"]
    assert importance["much"] > 0.8


def test_importance_of_one_trial_is_an_error(tmp_path):
    results = analytic_search(
        lambda hp: [hp.Float("a", 0, 1)], tmp_path, budget=kopt.tuning.Budget(trials=1)
    )
    with pytest.raises(SearchError, match="at least two complete trials"):
        results.importance()


def test_a_folder_without_a_study_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no study"):
        kopt.tuning.Results(tmp_path)
