import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import FitSchedule
from kopt.schedules import Cosine, Sequential, Warmup
from tests.reference import schedules as reference

X = np.random.default_rng(0).normal(size=(18, 3)).astype("float32")
Y = X @ np.ones((3, 2), "float32")
STEPS = 5  # batches of four, the last of two
RUN = Warmup(Cosine(0.1, steps=1.0, final=0.01), steps=0.2)


class Recorder(keras.callbacks.Callback):
    """Notes the learning rate that each batch was trained with."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))


def dense_model(optimizer="sgd", layers=(), seed=0, **compile_arguments):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


def fit(model, callback, epochs, data=None, **arguments):
    """The learning rate of each batch."""
    recorder = Recorder()
    inputs = {"x": X, "y": Y, "batch_size": 4} if data is None else {"x": data}
    model.fit(
        **inputs,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[callback, recorder],
        **arguments,
    )
    return recorder.rates


def rates_of(schedule, steps):
    return np.float32([reference.value(schedule, step) for step in steps])


def unknown_length():
    """A dataset of `STEPS` batches an epoch that does not know how many it has."""
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).filter(lambda x, y: True)


def assert_same_weights(model, other):
    for weight, same in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), same.numpy())


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_run_is_as_long_as_the_fit(epochs):
    rates = fit(dense_model(), FitSchedule(RUN), epochs)
    bound = RUN.bind(epochs * STEPS)
    np.testing.assert_allclose(rates, rates_of(bound, range(epochs * STEPS)), rtol=1e-6)


def test_it_trains_like_an_optimizer_with_the_same_schedule():
    driven = dense_model(keras.optimizers.Adam())
    fit(driven, FitSchedule(RUN), epochs=3)
    built_in = dense_model(keras.optimizers.Adam(RUN.bind(3 * STEPS)))
    built_in.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    for weight, same in zip(driven.weights, built_in.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), same.numpy(), rtol=1e-5)


def test_numbers_of_steps_stay_as_they_are():
    rates = fit(dense_model(), FitSchedule(Cosine(0.1, steps=7)), epochs=2)
    np.testing.assert_allclose(
        rates, rates_of(Cosine(0.1, steps=7), range(10)), rtol=1e-6, atol=1e-9
    )


def test_schedules_of_keras_drive_it_too():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [2, 6], [0.1, 0.01, 0.0]
    )
    rates = fit(dense_model(), FitSchedule(schedule), epochs=2)
    np.testing.assert_allclose(rates, [0.1] * 3 + [0.01] * 4 + [0.0] * 3)


def test_runs_longer_than_a_block_of_values_are_driven_to_the_end():
    data = tf.data.Dataset.from_tensors((X, Y)).repeat(600)
    rates = fit(dense_model(), FitSchedule(Cosine(0.1, steps=1.0)), 1, data)
    wanted = rates_of(Cosine(0.1, steps=600), range(600))
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)


def test_batches_are_counted_under_gradient_accumulation():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    rates = fit(dense_model(optimizer), FitSchedule(RUN), epochs=2)
    np.testing.assert_allclose(rates, rates_of(RUN.bind(10), range(10)), rtol=1e-6)


def test_the_value_holds_for_the_batches_of_one_execution():
    model = dense_model(steps_per_execution=2)
    rates = fit(model, FitSchedule(RUN), epochs=2)
    wanted = rates_of(RUN.bind(10), [0, 2, 4, 5, 7, 9])
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)


def test_an_execution_cut_short_by_the_end_of_an_epoch_counts_its_batches():
    model = dense_model(steps_per_execution=2)
    rates = fit(model, FitSchedule(RUN, total_steps=10), epochs=2)
    wanted = rates_of(RUN.bind(10), [0, 2, 4, 5, 7, 9])
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)


def test_initial_epoch_says_where_in_the_run_training_goes_on():
    rates = fit(dense_model(), FitSchedule(RUN), epochs=4, initial_epoch=3)
    np.testing.assert_allclose(rates, rates_of(RUN.bind(20), range(15, 20)), rtol=1e-6)


def test_each_fit_is_a_run_of_its_own():
    model, callback = dense_model(), FitSchedule(RUN)
    assert fit(model, callback, epochs=2) == fit(model, callback, epochs=2)


def test_a_run_of_so_many_epochs_goes_on_in_later_fits():
    model, callback = dense_model(), FitSchedule(RUN, epochs=4)
    rates = fit(model, callback, epochs=1)
    rates += fit(model, callback, epochs=3, initial_epoch=1)
    np.testing.assert_allclose(rates, rates_of(RUN.bind(20), range(15)), rtol=1e-6)


@pytest.mark.parametrize("accumulation", [None, 2])
def test_a_run_of_so_many_steps_goes_on_where_the_optimizer_is(accumulation):
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=accumulation)
    model, callback = dense_model(optimizer), FitSchedule(RUN, total_steps=20)
    rates = [rate for _ in range(4) for rate in fit(model, callback, 1)]
    np.testing.assert_allclose(rates, rates_of(RUN.bind(20), range(20)), rtol=1e-6)


@pytest.mark.parametrize(
    ("callback", "later"),
    [
        (FitSchedule(RUN, total_steps=4 * STEPS), {"epochs": 2}),
        (FitSchedule(RUN, epochs=4), {"epochs": 4, "initial_epoch": 2}),
    ],
    ids=["total_steps", "epochs"],
)
def test_saved_and_loaded_half_way_it_ends_as_if_never_stopped(
    callback, later, tmp_path
):
    through = dense_model(keras.optimizers.Adam())
    fit(through, FitSchedule(RUN), epochs=4)
    half = dense_model(keras.optimizers.Adam())
    fit(half, callback, epochs=2)
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    fit(loaded, callback, **later)
    assert_same_weights(loaded, through)


def test_the_last_value_stays_and_is_logged_for_each_epoch():
    model = dense_model(keras.optimizers.SGD(0.5))
    callback = FitSchedule(RUN)
    rates = fit(model, callback, epochs=2)
    assert float(model.optimizer.learning_rate) == rates[-1]
    assert model.history.history["learning_rate"] == [rates[4], rates[9]]


def test_a_loss_scaling_optimizer_is_driven_through():
    inner = keras.optimizers.SGD()
    model = dense_model(keras.optimizers.LossScaleOptimizer(inner))
    rates = fit(model, FitSchedule(RUN), epochs=1)
    np.testing.assert_allclose(rates, rates_of(RUN.bind(5), range(5)), rtol=1e-6)
    assert float(inner.learning_rate) == rates[-1]


def test_data_of_unknown_length_and_a_fraction_is_an_error():
    with pytest.raises(ValueError, match=r"steps_per_epoch.*total_steps"):
        fit(dense_model(), FitSchedule(RUN), 1, unknown_length())


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # at each epoch's end
@pytest.mark.parametrize("total_steps", [None, 10])
def test_data_of_unknown_length_is_no_matter_for_numbers_of_steps(total_steps):
    schedule = Cosine(0.1, steps=8)
    callback = FitSchedule(schedule, total_steps=total_steps)
    rates = fit(dense_model(), callback, 2, unknown_length())
    wanted = rates_of(schedule, range(10))
    np.testing.assert_allclose(rates, wanted, rtol=1e-6, atol=1e-9)


def test_data_of_unknown_length_from_a_later_epoch_on_is_an_error():
    with pytest.raises(ValueError, match="starts at epoch 2"):
        callback = FitSchedule(Cosine(0.1, steps=8))
        fit(dense_model(), callback, 3, unknown_length(), initial_epoch=2)


@pytest.mark.parametrize(
    "schedule",
    [
        Warmup(Cosine(0.1, steps=1.0), steps=500),
        Sequential([0.1, Cosine(0.1, steps=1.0)], boundaries=[500]),
    ],
    ids=["warm-up", "sequence"],
)
def test_fractions_that_steps_leave_no_room_for_are_an_error_at_once(schedule):
    model = dense_model()
    with pytest.raises(ValueError, match=r"exceeds the run: .* of 10 steps it is 501"):
        fit(model, FitSchedule(schedule), epochs=2)
    assert model.optimizer.iterations == 0


def test_steps_per_epoch_gives_endless_data_a_length():
    data = tf.data.Dataset.from_tensors((X, Y)).repeat()
    rates = fit(dense_model(), FitSchedule(RUN), 2, data, steps_per_epoch=5)
    np.testing.assert_allclose(rates, rates_of(RUN.bind(10), range(10)), rtol=1e-6)


def test_schedule_free_is_warmed_up_but_not_slowed_down():
    optimizer = kopt.ScheduleFreeSGD(0.1)
    model = dense_model(optimizer)
    with pytest.raises(ValueError, match="decays makes no sense under ScheduleFree"):
        fit(model, FitSchedule(RUN), epochs=2)
    assert optimizer.iterations == 0
    rates = fit(model, FitSchedule(Warmup(0.1, steps=1.0)), epochs=2)
    assert np.all(np.diff(rates) > 0)


def test_an_optimizer_with_a_schedule_of_its_own_is_an_error():
    model = dense_model(keras.optimizers.SGD(Cosine(0.1, steps=10)))
    with pytest.raises(ValueError, match="driven by a schedule of its own"):
        fit(model, FitSchedule(RUN), epochs=1)


@pytest.mark.parametrize("name", ["momentum", "weight_decay"])
def test_a_driven_number_of_the_optimizer_acts_like_a_set_one(name):
    driven = dense_model(kopt.SGD(0.1, **{name: 0.9}))
    fit(driven, FitSchedule(Warmup(0.25, steps=0), target=name), epochs=2)
    fixed = dense_model(kopt.SGD(0.1, **{name: 0.25}))
    fixed.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert_same_weights(driven, fixed)
    assert driven.history.history[name] == [0.25, 0.25]


@pytest.mark.parametrize("target", ["*/rate", "noise/rate", "*noise*/rate"])
def test_a_driven_dropout_rate_acts_like_a_set_one(target):
    driven = dense_model(layers=[kopt.layers.Dropout(0.9, seed=1, name="noise")])
    fit(driven, FitSchedule(Warmup(0.0, steps=0), target=target), epochs=2)
    without = dense_model(layers=[keras.layers.Identity()])
    without.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert_same_weights(driven, without)


def test_a_driven_regularizer_acts_like_a_set_one():
    def model(factor):
        keras.utils.set_random_seed(0)
        regularizer = kopt.regularizers.L2(factor)
        hidden = keras.layers.Dense(4, kernel_regularizer=regularizer)
        return dense_model(layers=[hidden])

    driven, fixed = model(0.9), model(0.125)
    target = "*/kernel/regularizer/l2"
    fit(driven, FitSchedule(Warmup(0.125, steps=0), target=target), epochs=2)
    fixed.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert_same_weights(driven, fixed)
    assert driven.history.history["l2"] == [0.125, 0.125]


def test_two_schedules_drive_two_things():
    model = dense_model(layers=[kopt.layers.Dropout(0.5)])
    dropout = FitSchedule(Cosine(0.5, steps=1.0), target="*/rate", name="dropout")
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[FitSchedule(RUN), dropout])
    assert {"learning_rate", "dropout"} <= set(model.history.history)


def test_a_function_of_the_model_finds_what_names_do_not():
    model = dense_model()
    model.anything = keras.Variable(0.5, trainable=False)
    schedule = Cosine(1.0, steps=1.0)
    callback = FitSchedule(schedule, target=lambda m: m.anything, name="anything")
    fit(model, callback, epochs=1)
    assert float(model.anything) == pytest.approx(reference.value(schedule.bind(5), 4))


def test_a_function_needs_a_name_for_the_logs():
    with pytest.raises(ValueError, match="`name` must be given"):
        FitSchedule(RUN, target=lambda model: model.anything)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"schedule": 0.1}, TypeError, "`schedule` must be a schedule"),
        ({"target": 3}, TypeError, "`target` must be a name"),
        ({"total_steps": 0}, ValueError, "`total_steps` must be"),
        ({"epochs": 0}, ValueError, "`epochs` must be"),
        ({"epochs": 2, "total_steps": 9}, ValueError, "Give one of them"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error, match):
    with pytest.raises(error, match=match):
        FitSchedule(**{"schedule": RUN, **arguments})


def test_all_replicas_are_driven(two_replicas):
    with two_replicas.scope():
        model = dense_model()
    rates = fit(model, FitSchedule(RUN), epochs=1)
    np.testing.assert_allclose(
        rates, rates_of(RUN.bind(STEPS), range(STEPS)), rtol=1e-6
    )
    variable = model.optimizer.learning_rate.value
    copies = two_replicas.experimental_local_results(variable)
    assert [float(copy) for copy in copies] == [rates[-1], rates[-1]]
