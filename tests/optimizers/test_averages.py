"""`use_ema`: an average belongs to its variable."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X @ np.ones((4, 1), "float32")

gradients_are_missing = pytest.mark.filterwarnings("ignore:Gradients do not exist")


def linear(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kopt.SGD(0.1, use_ema=True, ema_momentum=0.5, **options), "mse")
    return model


def average(optimizer, variable):
    store = {}
    optimizer.save_own_variables(store)
    index = [id(v) for v in optimizer._trainable_variables].index(id(variable))
    return store[f"average.{index}"]


@gradients_are_missing
def test_a_head_without_a_loss_keeps_its_weights():
    inputs = keras.Input((4,))
    heads = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("main", "aux")}
    model = keras.Model(inputs, heads)
    model.compile(kopt.Adam(1e-2, use_ema=True), loss={"main": "mse"})
    before = model.get_layer("aux").kernel.numpy()
    model.fit(X, {"main": Y}, verbose=0)
    np.testing.assert_array_equal(model.get_layer("aux").kernel.numpy(), before)


@gradients_are_missing
@pytest.mark.parametrize("area", [kopt, keras.optimizers], ids=["kopt", "keras"])
def test_before_its_first_gradient_an_average_is_its_variable(area):
    a, b = keras.Variable([1.0]), keras.Variable([4.0])
    optimizer = area.SGD(0.1, use_ema=True, ema_momentum=0.5)
    optimizer.build([a, b])
    for step in range(6):
        late = None if step < 3 else tf.constant([1.0])
        optimizer.apply([tf.constant([0.1]), late], [a, b])
    optimizer.finalize_variable_values([a, b])
    # 4, and then 3.9, 3.8 and 3.7 with a half each; as Keras averages.
    assert b.numpy()[0] == pytest.approx(3.7 + 0.1 * (1 / 2 + 1 / 4 + 1 / 8))


@gradients_are_missing
def test_overwriting_leaves_a_variable_without_a_gradient():
    a, b = keras.Variable([1.0]), keras.Variable([4.0])
    optimizer = kopt.SGD(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=1)
    for step in range(3):
        gradient = tf.constant([1.0]) if step < 2 else None
        optimizer.apply([tf.constant([1.0]), gradient], [a, b])
        before = b.numpy() if step == 1 else None or b.numpy()
    assert b.numpy()[0] == before[0] != 4.0


def test_finalizing_writes_the_variables_that_it_is_given():
    a, b = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = kopt.SGD(0.1, use_ema=True, ema_momentum=0.5)
    for _ in range(3):
        optimizer.apply([tf.ones(1), tf.ones(1)], [a, b])
    trained = b.numpy()
    optimizer.finalize_variable_values([a])
    assert a.numpy()[0] == pytest.approx(0.7 + 0.1 / 2 + 0.1 / 4)
    np.testing.assert_array_equal(b.numpy(), trained)


def test_a_layer_frozen_between_two_fits_stays():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="base")])
    model.add(keras.layers.Dense(1))
    optimizer = kopt.Adam(1e-2, use_ema=True)
    model.compile(optimizer, "mse")
    for _ in range(5):
        model.train_on_batch(X, Y)  # which does not end with the averages
    base = model.get_layer("base")
    base.trainable = False
    model.compile(optimizer, "mse")
    before = base.kernel.numpy()
    model.fit(X, Y, verbose=0, callbacks=[kopt.callbacks.EvalWeights()])
    np.testing.assert_array_equal(base.kernel.numpy(), before)


def test_nothing_is_written_before_the_first_update():
    model = linear(gradient_accumulation_steps=8)
    before = model.get_weights()
    model.fit(X, Y, batch_size=8, verbose=0)  # four batches
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_average_starts_again_from_weights_that_were_set():
    model = linear()
    model.fit(X, Y, epochs=5, verbose=0)
    model.set_weights([np.full((4, 1), 100.0), np.full(1, 100.0)])
    model.optimizer.learning_rate = 0.0
    model.fit(X, Y, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], np.full((4, 1), 100.0))


def test_the_average_of_one_variable_starts_again_from_an_assignment():
    a, b = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = kopt.SGD(0.1, use_ema=True, ema_momentum=0.5)

    @tf.function
    def step():
        optimizer.apply([tf.ones(1), tf.ones(1)], [a, b])

    optimizer.build([a, b])
    for _ in range(3):
        step()
    b.assign([9.0])
    step()
    assert average(optimizer, a)[0] == pytest.approx(
        0.6 + 0.1 * (1 / 2 + 1 / 4 + 1 / 8)
    )
    assert average(optimizer, b)[0] == pytest.approx((9.0 + 8.9) / 2)
    assert step.experimental_get_tracing_count() == 1


def test_training_goes_on_from_the_averages_that_fit_left():
    # As in Keras: what `finalize_variable_values` wrote is no foreign weight.
    models = [linear(), linear()]
    twin = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    models[1].compile(twin, "mse")
    for model in models:
        for _ in range(2):
            model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    for one, two in zip(*[m.get_weights() for m in models], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize("on_epoch", [False, True])
def test_the_callback_of_keras_swaps_the_averages_and_they_go_on(on_epoch):
    # It swaps by sums, which round: that must not look like foreign weights.
    histories = []
    for area in (kopt, keras.optimizers):
        model = linear()
        model.compile(area.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=on_epoch)
        histories.append(
            model.fit(
                *(X, Y),
                batch_size=8,
                epochs=4,
                shuffle=False,
                verbose=0,
                validation_data=(X, Y),
                callbacks=[swap],
            ).history["val_loss"]
        )
    np.testing.assert_allclose(*histories, rtol=1e-4)


def test_a_step_from_the_averages_goes_on_from_where_training_was():
    runs = []
    for leaves in (False, True):
        model = linear()
        for _ in range(6):
            model.train_on_batch(X, Y)
            if leaves:
                model.optimizer.swap_to_eval()
                model.optimizer.swap_to_train()
                model.optimizer.swap_to_train()
        runs.append([*model.get_weights(), average(model.optimizer, model.weights[0])])
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", ["bfloat16", "constrained"])
def test_going_to_the_averages_and_back_changes_no_bit(kind):
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    variable = keras.Variable(np.linspace(0.1, 1.0, 8), dtype=dtype)
    if kind == "constrained":
        variable.constraint = keras.constraints.UnitNorm()
    optimizer = kopt.SGD(0.1, use_ema=True, ema_momentum=0.9)
    for step in range(4):
        gradient = tf.cast(tf.range(8) + step, dtype)
        optimizer.apply([gradient], [variable])
    before = variable.numpy(), average(optimizer, variable)
    optimizer.swap_to_eval()
    assert np.any(variable.numpy() != before[0])
    if kind == "constrained":
        assert np.linalg.norm(variable.numpy()) == pytest.approx(1.0)
    optimizer.swap_to_train()
    np.testing.assert_array_equal(variable.numpy(), before[0])
    np.testing.assert_array_equal(average(optimizer, variable), before[1])


def test_a_state_of_before_the_point_was_recorded_is_read():
    one, other = linear(), linear()
    for _ in range(3):
        one.train_on_batch(X, Y)
    store = {}
    one.optimizer.save_own_variables(store)
    del store["point"]
    other.set_weights(one.get_weights())
    other.optimizer.build(other.trainable_variables)
    other.optimizer.load_own_variables(store)
    for model in (one, other):
        model.fit(X, Y, verbose=0)
    for first, second in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
