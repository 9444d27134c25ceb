"""Objectives from the predictions for all of the validation data."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score, log_loss, roc_auc_score

import kopt
from kopt.tuning import FromPredictions
from kopt.tuning._trials.errors import ObjectiveError

random = np.random.default_rng(0)
x = random.normal(size=(90, 4)).astype("float32")
y = (x[:, 0] + random.normal(size=90) > 0).astype("float32")
weights = random.uniform(0.1, 1.0, size=30).astype("float32")
TRAIN, VALIDATION = (x[:60], y[:60]), (x[60:], y[60:])
AUC = FromPredictions(roc_auc_score, direction="max")


def classifier(inputs=4):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((inputs,)), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
    return model


def build(hp):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(hp.Choice("rate", [1e-3, 0.3])), "mse")
    return model


def search(folder, objective, trials=2, **arguments):
    return kopt.tuning.tune(
        build,
        TRAIN,
        objective=objective,
        budget=kopt.tuning.Budget(trials=trials),
        directory=folder,
        **{"validation_data": VALIDATION, "epochs": 3, **arguments},
    )


def logged(objective, model=None, data=TRAIN, **arguments):
    """The values of all epochs of a `fit`, and the model after it."""
    model = model or classifier()
    arguments.setdefault("validation_data", VALIDATION)
    history = model.fit(
        *(data if isinstance(data, tuple) else (data,)),
        callbacks=[objective.callback()],
        verbose=0,
        **arguments,
    )
    return history.history[objective.name], model


def test_a_search_maximizes_the_area_under_the_curve(tmp_path):
    results = search(tmp_path, AUC)
    assert results.study.direction.name == "MAXIMIZE"
    predicted = results.best_model().predict(VALIDATION[0], verbose=0)
    assert results.best_score == pytest.approx(roc_auc_score(y[60:], predicted[:, 0]))
    history = results.history(results.best_trial.number)
    assert len(history["val_roc_auc_score"]) == 3
    assert max(history["val_roc_auc_score"]) == results.best_score
    ((_, score),) = results.refit()
    assert 0.0 <= score <= 1.0


def test_the_value_is_no_mean_over_batches():
    (value,), model = logged(AUC, validation_batch_size=4)
    predicted = model.predict(VALIDATION[0], verbose=0)[:, 0]
    assert value == pytest.approx(roc_auc_score(y[60:], predicted))


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, place):
        part = slice(10 * place, 10 * place + 10)
        return VALIDATION[0][part], VALIDATION[1][part]


@pytest.mark.parametrize(
    "validation",
    [
        tf.data.Dataset.from_tensor_slices(VALIDATION).shuffle(30).batch(7),
        Pairs(),
        tuple(map(tf.constant, VALIDATION)),
    ],
    ids=["data set", "PyDataset", "tensors"],
)
def test_validation_data_of_any_kind_are_taken(validation):
    (value,), model = logged(AUC, validation_data=validation)
    predicted = model.predict(VALIDATION[0], verbose=0)[:, 0]
    assert value == pytest.approx(roc_auc_score(y[60:], predicted))


def test_a_share_of_the_data_and_some_of_the_batches_are_taken():
    (value,), model = logged(
        AUC, data=(x, y), validation_data=None, validation_split=1 / 3
    )
    predicted = model.predict(x[60:], verbose=0)[:, 0]
    assert value == pytest.approx(roc_auc_score(y[60:], predicted))
    batches = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(8).repeat()
    (value,), model = logged(AUC, validation_data=batches, validation_steps=2)
    predicted = model.predict(x[60:76], verbose=0)[:, 0]
    assert value == pytest.approx(roc_auc_score(y[60:76], predicted))


def test_labels_are_predictions_from_a_threshold_on():
    f1 = FromPredictions(f1_score, direction="max", threshold=0.6)
    (value,), model = logged(f1)
    predicted = model.predict(VALIDATION[0], verbose=0)[:, 0]
    assert value == pytest.approx(f1_score(y[60:], predicted >= 0.6))


def test_sample_weights_are_handed_over():
    loss = FromPredictions(log_loss, direction="min")
    (value,), model = logged(loss, validation_data=(*VALIDATION, weights))
    predicted = model.predict(VALIDATION[0], verbose=0)[:, 0]
    assert value == pytest.approx(
        log_loss(y[60:], predicted, sample_weight=weights), rel=1e-5
    )
    of_two = FromPredictions(lambda y, p: 0.0, direction="min", name="val_cost")
    with pytest.raises(ObjectiveError, match="Give it an argument `sample_weight`"):
        logged(of_two, validation_data=(*VALIDATION, weights))


def two_outputs(kind):
    inputs = keras.Input((4,))
    first = keras.layers.Dense(1, "sigmoid", name="first")(inputs)
    second = keras.layers.Dense(1, "sigmoid", name="second")(inputs)
    both = {"first": first, "second": second} if kind is dict else [first, second]
    model = keras.Model(inputs, both)
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    ("kind", "output"), [(dict, "second"), (list, 1), (list, "second")]
)
def test_of_several_outputs_one_is_looked_at(kind, output):
    targets = [1 - y, y] if kind is list else {"first": 1 - y, "second": y}
    auc = FromPredictions(roc_auc_score, direction="max", output=output)
    data = (x, targets)
    (value,), model = logged(auc, two_outputs(kind), data, validation_data=data)
    found = model.predict(x, verbose=0)[1 if kind is list else "second"]
    assert value == pytest.approx(roc_auc_score(y, found[:, 0]))


def test_of_several_outputs_one_has_to_be_chosen():
    data = (x, {"first": y, "second": y})
    with pytest.raises(ObjectiveError, match=r"'first', 'second'\. Say which"):
        logged(AUC, two_outputs(dict), data, validation_data=data)
    third = FromPredictions(roc_auc_score, direction="max", output="third")
    with pytest.raises(ObjectiveError, match="no output 'third'"):
        logged(third, two_outputs(dict), data, validation_data=data)


def test_predictions_that_are_not_finite_fail_their_trial(tmp_path):
    def diverges(hp):
        model = build(hp)
        if hp.get("rate") > 0.1:
            model.set_weights([np.full((4, 1), np.nan), np.zeros(1)])
        return model

    results = kopt.tuning.tune(
        diverges,
        TRAIN,
        objective=AUC,
        budget=kopt.tuning.Budget(trials=2),
        directory=tmp_path,
        validation_data=VALIDATION,
        sampler="grid",
    )
    failed = {row["hp:rate"]: row["state"] for row in results.rows()}
    assert failed == {1e-3: "complete", 0.3: "failed"}
    assert "val_roc_auc_score is nan" in results.rows()[1]["reason"]


def test_epochs_without_validation_have_no_value():
    values, _ = logged(AUC, epochs=4, validation_freq=2)
    assert len(values) == 2


def test_it_changes_nothing_in_the_training():
    def weights_after(callbacks):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
        )
        model.compile("adam", "mse")
        model.fit(
            *TRAIN, validation_data=VALIDATION, epochs=3, callbacks=callbacks, verbose=0
        )
        return model.get_weights()

    for one, other in zip(
        weights_after([]), weights_after([AUC.callback()]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_other_callbacks_see_the_value(tmp_path):
    seen = []

    class See(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["val_roc_auc_score"])

    results = search(tmp_path, AUC, trials=1, callbacks=lambda trial: [See()])
    assert seen == results.history(0)["val_roc_auc_score"]


def test_without_validation_data_the_error_says_so(tmp_path):
    with pytest.raises(ObjectiveError, match=r"needs validation data\. Give"):
        search(tmp_path, AUC, validation_data=None)


def test_names_come_from_the_function():
    partial = functools.partial(f1_score, average="macro")
    assert FromPredictions(partial, direction="max").name == "val_f1_score"
    with pytest.raises(ValueError, match="Give one under which its value is logged"):
        FromPredictions(lambda y, p: 0.0, direction="max")
    doubled = FromPredictions(log_loss, direction="min", name="val_loss")
    with pytest.raises(ObjectiveError, match="is logged already"):
        logged(doubled)


def test_what_is_no_objective_is_an_error():
    with pytest.raises(TypeError, match="must be a function of targets"):
        FromPredictions("auc", direction="max")
    with pytest.raises(ValueError, match="one of 'min', 'max'"):
        FromPredictions(roc_auc_score, direction="up")
    curve = FromPredictions(lambda y, p: p, direction="max", name="val_curve")
    with pytest.raises(ObjectiveError, match="must return a number"):
        logged(curve)
    with pytest.raises(ObjectiveError, match="generator"):
        logged(
            AUC,
            validation_data=(pair for pair in [VALIDATION, VALIDATION]),
            validation_steps=1,
        )


def test_the_choice_of_the_score_is_written_down(tmp_path):
    results = search(tmp_path, "val_loss", trials=1, score=2)
    line = "A trial's score is val_loss as the mean of its last 2 epochs."
    assert line in results.why()
    with pytest.raises(RuntimeError, match="another `score`: 2 there, 'best' here"):
        search(tmp_path, "val_loss", trials=1)
