"""Batches of other sizes from some epochs on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import BatchSizeRamp, FitSchedule, LRFinder, OneCycle
from kopt.schedules import Linear

X = np.arange(36, dtype="float32").reshape(36, 1) / 36
Y = X * 2.0


def dense_model(optimizer=None, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer or kopt.SGD(0.1), "mse", **arguments)
    return model


class Batches(keras.callbacks.Callback):
    """How many batches each epoch has, and the rate of each."""

    def __init__(self):
        super().__init__()
        self.steps, self.rates = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.steps.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] = batch + 1
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


def dataset(size=4, drop_remainder=False, endless=False):
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    data = data.repeat() if endless else data
    return data.batch(size, drop_remainder=drop_remainder)


def fit(model, ramp, *callbacks, data=None, epochs=4, **arguments):
    arguments = {"verbose": 0, "shuffle": False, **arguments}
    if data is None:
        arguments = {"x": X, "y": Y, "batch_size": 4, **arguments}
    else:
        arguments = {"x": data, **arguments}
    seen = Batches()
    history = model.fit(epochs=epochs, callbacks=[*callbacks, ramp, seen], **arguments)
    return seen, history.history


def trained_by_hand(sizes):
    """The weights after epochs on batches of these sizes, one after the other."""
    model = dense_model()
    for size in sizes:
        model.fit(X, Y, batch_size=size, verbose=0, shuffle=False)
    return model.get_weights()


def assert_same(model, weights):
    for weight, value in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-6)


DATA = {
    "arrays": lambda: None,
    "dataset": dataset,
    "dataset of full batches": lambda: dataset(drop_remainder=True),
}


@pytest.mark.parametrize("kind", DATA)
def test_an_epoch_goes_through_the_data_once_in_the_batches_asked_for(kind):
    model = dense_model()
    seen, history = fit(model, BatchSizeRamp({1: 8, 3: 24}), data=DATA[kind]())
    assert seen.steps == [9, 5, 5, 2]
    assert history["batch_size"] == [4, 8, 8, 24]
    assert_same(model, trained_by_hand([4, 8, 8, 24]))


def test_arrays_take_any_size_and_a_dataset_multiples_of_its_own():
    seen, _ = fit(dense_model(), BatchSizeRamp({2: 7}))
    assert seen.steps == [9, 9, 6, 6]
    model = dense_model()
    with pytest.raises(ValueError, match=r"multiples of the size .* 4, .*\{2: 7\}"):
        fit(model, BatchSizeRamp({2: 7}), data=dataset())
    assert model.optimizer.iterations == 0


def test_epochs_can_be_fractions_of_the_run():
    seen, _ = fit(dense_model(), BatchSizeRamp({0.5: 12}), epochs=6)
    assert seen.steps == [9, 9, 9, 3, 3, 3]


def test_endless_data_keep_the_samples_of_an_epoch():
    seen, _ = fit(
        dense_model(),
        BatchSizeRamp({1: 8}),
        data=dataset(endless=True),
        epochs=3,
        steps_per_epoch=6,
    )
    assert seen.steps == [6, 3, 3]


def test_it_goes_on_where_initial_epoch_says():
    seen, history = fit(dense_model(), BatchSizeRamp({1: 8, 3: 12}), initial_epoch=2)
    assert seen.steps == [5, 3] and history["batch_size"] == [8, 12]


def test_each_fit_starts_from_its_own_size():
    model, ramp = dense_model(), BatchSizeRamp({1: 12})
    for _ in range(2):
        assert fit(model, ramp, epochs=2)[0].steps == [9, 3]


def test_it_works_with_several_steps_an_execution():
    model = dense_model(steps_per_execution=2)
    fit(model, BatchSizeRamp({1: 12}), epochs=2)
    assert int(model.optimizer.iterations) == 12
    assert_same(model, trained_by_hand([4, 12]))


@pytest.mark.parametrize("ramp_first", [False, True])
def test_a_curve_beside_it_counts_the_steps_that_there_are(ramp_first):
    curve, ramp = FitSchedule(Linear(1e-2, steps=1.0)), BatchSizeRamp({1: 12, 3: 36})
    callbacks = [ramp, curve] if ramp_first else [curve, ramp]
    seen = Batches()
    dense_model().fit(
        X, Y, 4, epochs=4, verbose=0, callbacks=[*callbacks, seen], shuffle=False
    )
    assert seen.steps == [9, 3, 3, 1]
    np.testing.assert_allclose(seen.rates, 1e-2 * (1 - np.arange(16) / 16), rtol=1e-5)


def test_a_curve_over_several_fits_counts_them_too():
    curve = FitSchedule(Linear(1e-2, steps=1.0), total_steps=24)
    model, rates = dense_model(), []
    for _ in range(2):
        rates += fit(model, BatchSizeRamp({1: 12}), curve, epochs=2)[0].rates
    np.testing.assert_allclose(rates, 1e-2 * (1 - np.arange(24) / 24), rtol=1e-5)


def test_one_cycle_beside_it_ends_at_its_end():
    cycle = OneCycle(0.01, momentum=None)
    seen, _ = fit(dense_model(), BatchSizeRamp({2: 36}), cycle)
    schedule = kopt.schedules.OneCycle(0.01, 20)
    wanted = [float(schedule(step)) for step in range(20)]
    np.testing.assert_allclose(seen.rates, wanted, rtol=1e-5)


def test_the_progress_bar_knows_the_new_length(capsys):
    fit(dense_model(), BatchSizeRamp({1: 12}), epochs=2, verbose=1)
    shown = capsys.readouterr().out
    assert "9/9" in shown and "3/3" in shown


def test_weights_of_samples_and_classes_are_kept():
    def weighted(*sizes):
        model, labels = dense_model(), (X[:, 0] > 0.5).astype(int)
        arguments = {"shuffle": False, "verbose": 0, "class_weight": {0: 1.0, 1: 3.0}}
        model.compile(kopt.SGD(0.1), "binary_crossentropy")
        if len(sizes) == 2:
            ramp = [BatchSizeRamp({1: sizes[1]})]
            model.fit(X, labels, sizes[0], epochs=2, callbacks=ramp, **arguments)
        else:
            model.fit(X, labels, sizes[0], epochs=1, **arguments)
            model.fit(X, labels, sizes[2], epochs=1, **arguments)
        return model.get_weights()

    for one, other in zip(weighted(4, 12), weighted(4, 0, 12), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


class Batched(keras.utils.PyDataset):
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def test_data_that_cannot_be_cut_are_named_at_once():
    model = dense_model()
    with pytest.raises(ValueError, match=r"Received: Batched\. Pass the arrays"):
        fit(model, BatchSizeRamp({1: 8}), data=Batched())
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({4: 8}, "at epoch 4, which is not within the run: this fit has 4 epochs"),
        ({2: 8, 0.5: 12}, "at epoch 2, which is there twice"),
    ],
)
def test_epochs_that_exceed_the_run_are_an_error_at_once(sizes, match):
    model = dense_model()
    with pytest.raises(ValueError, match=match):
        fit(model, BatchSizeRamp(sizes))
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("sizes", "error", "match"),
    [
        (None, TypeError, "`sizes` must map epochs to batch sizes"),
        ({}, TypeError, "`sizes` must map epochs to batch sizes"),
        ({-1: 8}, ValueError, "`epoch` must be a whole number of at least 0"),
        ({1.5: 8}, ValueError, "`epoch` must be .* less than 1"),
        ({1: 0}, ValueError, r"`sizes\[1\]` must be a whole number of at least 1"),
    ],
)
def test_wrong_arguments_are_refused_at_once(sizes, error, match):
    with pytest.raises(error, match=match):
        BatchSizeRamp(sizes)


def test_a_sweep_beside_it_is_refused():
    with pytest.raises(ValueError, match="BatchSizeRamp, which would change"):
        fit(dense_model(), BatchSizeRamp({1: 8}), LRFinder(steps=10))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_two_replicas_train_as_one_device(kind, two_replicas):
    with two_replicas.scope():
        model = dense_model()
    fit(model, BatchSizeRamp({1: 8, 3: 24}), data=DATA[kind]())
    for weight, value in zip(
        model.get_weights(), trained_by_hand([4, 8, 8, 24]), strict=True
    ):
        np.testing.assert_allclose(weight, value, rtol=0, atol=1e-6)


def test_a_plan_is_taken_up_by_the_same_plan_alone():
    ramps = [BatchSizeRamp({1: 12}), BatchSizeRamp({0.5: 12})]
    for ramp in ramps:
        fit(dense_model(), ramp, epochs=2)
    ramps[1].set_state(ramps[0].get_state())
    other = BatchSizeRamp({1: 36})
    fit(dense_model(), other, epochs=2)
    with pytest.raises(ValueError, match=r"\[1, 12\]\], and are now .*\[1, 36\]\]"):
        other.set_state(ramps[0].get_state())
