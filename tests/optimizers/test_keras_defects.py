"""Defects of Keras 3.15's optimizers that must not reproduce in kopt.

Each test first shows Keras failing, so that it tells us when Keras mends the defect.
"""

import inspect
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt

BOTH = pytest.mark.parametrize(
    "library", [keras.optimizers, kopt], ids=["keras", "kopt"]
)


def is_keras(library):
    return library is keras.optimizers


def apply_repeatedly(optimizer, variable, gradients):
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([gradient], [variable])
    return variable.numpy()


@BOTH
@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop"])
def test_repeated_rows_are_summed_before_they_are_squared(library, name):
    slices = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([1, 1]), tf.constant([4, 3]))
    dense = tf.constant([[0.0] * 3, [2.0] * 3, [0.0] * 3, [0.0] * 3])
    results = []
    for gradient in (slices, dense):
        # A large epsilon lets the size of the second moment show.
        optimizer = getattr(library, name)(learning_rate=0.1, epsilon=1.0)
        table = keras.Variable(np.zeros((4, 3), "float32"))
        results.append(apply_repeatedly(optimizer, table, [gradient] * 5))
    equal = np.allclose(*results, rtol=0, atol=1e-6)
    assert equal is not is_keras(library)


@BOTH
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize(("start", "rate"), [(0.0, 0.01), (1.0, 0.001)])
def test_pure_bfloat16_weights_move(library, name, start, rate):
    optimizer = getattr(library, name)(learning_rate=rate, weight_decay=0.0)
    weights = keras.Variable(np.full(64, start), dtype="bfloat16")
    end = apply_repeatedly(optimizer, weights, [tf.ones(64, tf.bfloat16)] * 20)
    moved = start - end.astype("float32").mean()
    if is_keras(library):
        assert moved == 0
    else:
        np.testing.assert_allclose(moved, 20 * rate, rtol=0.15)


def model_with_decay(library):
    optimizer = library.AdamW(learning_rate=0.1, weight_decay=0.5)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="head")])
    return model, optimizer


@BOTH
def test_exclusions_from_weight_decay_survive_saving(library, tmp_path):
    model, optimizer = model_with_decay(library)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before = loaded.trainable_variables[0].numpy()
    zeros = [tf.zeros(v.shape) for v in loaded.trainable_variables]
    loaded.optimizer.apply(zeros, loaded.trainable_variables)
    kept = np.array_equal(loaded.trainable_variables[0].numpy(), before)
    assert kept is not is_keras(library)


@BOTH
def test_exclusions_from_weight_decay_can_name_a_layer(library):
    model, optimizer = model_with_decay(library)
    optimizer.exclude_from_weight_decay(var_names=["head/kernel"])
    kernel = model.trainable_variables[0]
    # Keras asks by the bare name, "kernel", when it is given its own variables.
    if is_keras(library):
        assert optimizer._use_weight_decay(kernel)
        return
    before = kernel.numpy()
    apply_repeatedly(optimizer, kernel, [tf.zeros(kernel.shape)])
    np.testing.assert_array_equal(kernel.numpy(), before)


@BOTH
def test_exclusions_after_building_are_refused(library):
    model, optimizer = model_with_decay(library)
    optimizer.build(model.trainable_variables)
    if is_keras(library):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])
        return
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


def averages(optimizer):
    return optimizer._model_variables_moving_average[0].numpy()


@BOTH
def test_the_moving_average_waits_for_the_accumulated_update(library):
    optimizer = library.SGD(
        1.0, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=4
    )
    weight = keras.Variable([0.0])
    apply_repeatedly(optimizer, weight, [tf.constant([-1.0])] * 12)
    # Three updates, to 1, 2 and 3. The first average is the first weight.
    right = bool(np.allclose(averages(optimizer), [0.25 * 1 + 0.25 * 2 + 0.5 * 3]))
    assert right is not is_keras(library)


@BOTH
def test_the_moving_average_is_of_constrained_weights(library):
    optimizer = library.SGD(1.0, use_ema=True, ema_momentum=0.5)
    layer = keras.layers.Dense(1, use_bias=False, kernel_constraint="non_neg")
    layer.build((None, 1))
    apply_repeatedly(optimizer, layer.kernel, [tf.constant([[50.0]])] * 3)
    assert layer.kernel.numpy().item() == 0
    right = averages(optimizer).item() == 0
    assert right is not is_keras(library)


@BOTH
def test_the_moving_average_leaves_float8_scales_alone(library):
    optimizer = library.SGD(0.1, use_ema=True)
    weight, scale = keras.Variable([1.0]), keras.Variable([1.0])
    scale.overwrite_with_gradient = True
    optimizer.build([weight, scale])

    def train():
        optimizer.apply([tf.constant([1.0]), tf.constant([7.0])], [weight, scale])
        optimizer.finalize_variable_values([weight, scale])

    if is_keras(library):
        with pytest.raises(ValueError, match="None"):
            train()
        return
    train()
    assert scale.numpy().tolist() == [7.0]
    np.testing.assert_allclose(weight.numpy(), [0.9])


@BOTH
def test_the_constraint_waits_for_the_accumulated_update(library):
    calls = []

    class Counting(keras.constraints.Constraint):
        def __call__(self, weights):
            calls.append(1)
            return weights

    layer = keras.layers.Dense(1, use_bias=False, kernel_constraint=Counting())
    layer.build((None, 1))
    optimizer = library.SGD(0.1, gradient_accumulation_steps=4)
    apply_repeatedly(optimizer, layer.kernel, [tf.ones((1, 1))] * 8)
    assert (len(calls) == 2) is not is_keras(library)


@BOTH
def test_gradients_are_clipped_after_the_sum_over_replicas(library, two_replicas):
    with two_replicas.scope():
        weight = keras.Variable([0.0], trainable=True)
        optimizer = library.SGD(1.0, clipnorm=1.0)
        optimizer.build([weight])

    @tf.function
    def step():
        two_replicas.run(lambda: optimizer.apply([tf.constant([5.0])], [weight]))

    step()
    length = abs(float(weight.value.values[0].numpy()[0]))
    assert length == (2.0 if is_keras(library) else 1.0)


@BOTH
def test_the_schedule_is_evaluated_once_a_step(library):
    traced = []

    class Counting(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            traced.append(1)
            return keras.ops.convert_to_tensor(0.1)

    variables = [keras.Variable([1.0]) for _ in range(20)]
    optimizer = library.AdamW(Counting())
    optimizer.build(variables)
    traced.clear()

    @tf.function
    def step():
        optimizer.apply([tf.ones(1) for _ in variables], variables)

    step()
    assert (len(traced) == 1) is not is_keras(library)


@BOTH
def test_a_schedule_counts_updates_not_batches(library):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1.0, 0.0])
    optimizer = library.SGD(schedule, gradient_accumulation_steps=2)
    weight = keras.Variable([0.0])
    apply_repeatedly(optimizer, weight, [tf.constant([-1.0])] * 4)
    # Updates 0 and 1 both lie within the boundary; batch 3 does not.
    right = weight.numpy().item() == 2.0
    assert right is not is_keras(library)


@BOTH
def test_a_state_that_does_not_fit_is_an_error(library):
    small, large = library.Adam(), library.Adam()
    small.build([keras.Variable([1.0])])
    large.build([keras.Variable([1.0]), keras.Variable([2.0])])
    store = {}
    small.save_own_variables(store)
    if is_keras(library):
        with pytest.warns(UserWarning, match="Skipping variable loading"):
            large.load_own_variables(store)
        return
    with pytest.raises(ValueError, match=r"momentum\.1 is missing.*Nothing was loaded"):
        large.load_own_variables(store)


@BOTH
def test_only_batches_that_exist_are_counted(library):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(library.Adam(), "mse", jit_compile=False)
    batches = [(np.ones((4, 2), "float32"), np.ones((4, 1), "float32"))] * 5
    data = tf.data.Dataset.from_tensor_slices(
        tuple(np.stack(part) for part in zip(*batches, strict=True))
    ).filter(lambda x, y: True)  # of unknown length from here on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras says that the data ended
        model.fit(data, epochs=3, verbose=0)
    right = int(model.optimizer.iterations) == 15
    assert right is not is_keras(library)


@BOTH
@pytest.mark.parametrize("rate", [1, np.float32(0.5)], ids=["int", "numpy"])
def test_any_real_number_is_a_learning_rate(library, rate):
    if is_keras(library):
        with pytest.raises(ValueError, match="should be float"):
            library.SGD(rate)
        return
    assert library.SGD(rate).learning_rate.numpy() == rate


@BOTH
def test_frozen_variables_can_be_freed_in_mid_training(library):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, name="body"), keras.layers.Dense(1)]
    )
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    if is_keras(library):
        model.layers[0].trainable = False
        model.compile(library.Adam(), "mse")
        model.fit(x, y, verbose=0)
        model.layers[0].trainable = True
        with pytest.raises(ValueError, match="Unknown variable"):
            model.optimizer.apply(
                [tf.zeros(v.shape) for v in model.trainable_variables],
                model.trainable_variables,
            )
        return
    body = kopt.ParamGroup("body", frozen=True)
    model.compile(kopt.Adam(param_groups=[body]), "mse")
    kernel = model.layers[0].kernel
    before = kernel.numpy()
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(kernel.numpy(), before)
    function = model.train_function
    body.frozen = False
    model.fit(x, y, verbose=0)
    assert np.all(kernel.numpy() != before)
    assert model.train_function is function


def test_keras_still_lists_no_exclusions_in_its_config():
    # The reason why the exclusions of Keras are lost; kopt lists them.
    signature = inspect.signature(keras.optimizers.AdamW)
    assert "exclude_from_weight_decay" not in signature.parameters
    assert "excluded_from_weight_decay" in kopt.AdamW().get_config()
