import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from tests.sampling import sampled


def linear():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


X, Y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")


def test_a_model_saved_before_its_first_step_loads_in_silence(tmp_path):
    model = linear()
    model.compile(kopt.Adam(0.25), "mse")
    model.save(tmp_path / "new.keras")
    loaded = keras.saving.load_model(tmp_path / "new.keras")
    model.fit(X, Y, verbose=0)
    loaded.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_the_variables_of_an_optimizer_are_its_own():
    model = linear()
    optimizer = kopt.Adam(use_ema=True, gradient_accumulation_steps=2)
    optimizer.build(model.trainable_variables)
    own = {id(variable) for variable in optimizer.variables}
    assert not own & {id(variable) for variable in model.variables}
    # The rate, the batches, what each variable accumulated and the point; and four for
    # each of kernel and bias.
    assert len(optimizer.variables) == 4 + 2 * 4


def test_a_tensorflow_checkpoint_holds_the_whole_state(tmp_path):
    model = linear()
    model.compile(kopt.Adam(), "mse")
    model.fit(X, Y, epochs=3, verbose=0)
    saved = [variable.numpy() for variable in model.optimizer.variables]
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.save(tmp_path / "checkpoint")
    model.fit(X, Y, epochs=3, verbose=0)
    checkpoint.restore(path).assert_consumed()
    for variable, expected in zip(model.optimizer.variables, saved, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected)


def test_weights_files_with_the_optimizer_resume(tmp_path):
    model = linear()
    model.compile(kopt.Lion(), "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(tmp_path / "all.keras")
    other = keras.saving.load_model(tmp_path / "all.keras")
    assert int(other.optimizer.iterations) == int(model.optimizer.iterations) == 2


@pytest.mark.parametrize("wrap", [lambda o: o, kopt.Lookahead])
def test_a_weights_file_read_before_the_first_step_resumes_too(wrap, tmp_path):
    straight, stopped, resumed = linear(), linear(), linear()
    stopped.set_weights(straight.get_weights())
    for model in (straight, stopped, resumed):
        model.compile(wrap(kopt.Adam(0.1)), "mse")
    straight.fit(X, Y, epochs=4, verbose=0)
    stopped.fit(X, Y, epochs=2, verbose=0)
    stopped.save_weights(tmp_path / "half.weights.h5")
    resumed.load_weights(tmp_path / "half.weights.h5")
    assert not resumed.optimizer.built
    resumed.fit(X, Y, epochs=2, verbose=0)
    for found, expected in zip(
        resumed.get_weights(), straight.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_waiting_state_that_does_not_fit_says_how_to_go_on(tmp_path):
    model, other = linear(), linear()
    model.compile(kopt.Adam(0.1), "mse")
    model.fit(X, Y, verbose=0)
    model.save_weights(tmp_path / "adam.weights.h5")
    other.compile(kopt.Lion(0.1), "mse")
    other.load_weights(tmp_path / "adam.weights.h5")
    with pytest.raises(ValueError, match="load it before `compile`"):
        other.fit(X, Y, verbose=0)


def test_a_state_of_other_shapes_leaves_everything_as_it_was():
    one, other = kopt.Adam(), kopt.Adam()
    variable = keras.Variable(np.ones(3, "float32"))
    one.build([variable])
    other.build([keras.Variable(np.ones(4, "float32"))])
    one.apply([tf.ones(3)], [variable])
    store = {}
    one.save_own_variables(store)
    with pytest.raises(ValueError, match=r"momentum\.0 has shape \(3,\), needed is"):
        other.load_own_variables(store)
    assert int(other.iterations) == 0


def test_saved_models_are_not_disturbed_by_compiled_updates(tmp_path):
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300)])
    model.compile(kopt.AdamW(), "mse")
    model.fit(np.ones((4, 300)), np.ones((4, 300)), verbose=0)
    tf.saved_model.save(model, str(tmp_path / "whole"))  # follows every attribute
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    x = np.ones((4, 300), "float32")
    np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-5)


def test_the_loss_scale_skips_a_step_that_overflows():
    inner = kopt.Adam(0.1)
    optimizer = keras.optimizers.LossScaleOptimizer(inner)
    weight = keras.Variable([1.0])
    optimizer.build([weight])
    optimizer.apply([tf.constant([np.inf])], [weight])
    assert weight.numpy().tolist() == [1.0]
    assert int(inner.iterations) == 0
    optimizer.apply([tf.constant([1.0])], [weight])
    assert weight.numpy().item() < 1.0


def test_a_schedule_refuses_to_be_overwritten_by_a_number():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    optimizer = kopt.Adam(schedule)
    with pytest.raises(TypeError, match=r"a schedule drives it.*Compile with a float"):
        optimizer.learning_rate = 0.5


def test_a_schedule_can_follow_a_number():
    optimizer = kopt.SGD(0.5)
    optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(0.25, 10)
    assert float(optimizer.learning_rate) == 0.25


def test_gradients_and_variables_must_be_as_many():
    optimizer = kopt.SGD()
    with pytest.raises(ValueError, match="1 gradients for 2 variables"):
        optimizer.apply([tf.ones(1)], [keras.Variable([1.0]), keras.Variable([1.0])])


def test_an_unbuilt_optimizer_needs_the_variables():
    with pytest.raises(ValueError, match="The optimizer is not built"):
        kopt.SGD().apply([tf.ones(1)])


def test_missing_gradients_leave_their_variables_alone():
    weights = [keras.Variable([1.0]), keras.Variable([1.0])]
    optimizer = kopt.SGD(0.5)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([tf.constant([1.0]), None], weights)
    assert [float(w.numpy().item()) for w in weights] == [0.5, 1.0]


GROUPED = {"gradient_accumulation_steps": 2, "weight_decay": 0.01}


def everything_kept(wrap):
    """An optimizer with a variable of every kind, and names that might clash."""
    groups = [kopt.ParamGroup("bias", 0.5), kopt.ParamGroup("kernel", 0.9)]
    return wrap(kopt.Adam(0.1, param_groups=groups, amsgrad=True, **GROUPED))


WRAPS = [
    lambda o: o,
    lambda o: kopt.Adam(0.1, use_ema=True, **GROUPED),
    lambda o: kopt.Lookahead(kopt.Lookahead(o)),
    lambda o: kopt.ScheduleFreeAdamW(0.1, **GROUPED),
    lambda o: kopt.WeightAverage(keras.optimizers.Adam(0.1)),
]


def hidden():
    layers = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((3,)), *layers])


def train(model):
    model.fit(X, Y, epochs=3, verbose=0)


def assert_trained_alike(one, other):
    for found, expected in zip(
        [*one.weights, *one.optimizer.variables],
        [*other.weights, *other.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(found.numpy(), expected.numpy(), found.path)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", sampled(WRAPS, [WRAPS[0], WRAPS[2]], pytest.mark.slow))
def test_training_continues_from_an_h5_file_as_if_it_had_not_stopped(wrap, tmp_path):
    straight = hidden()
    straight.compile(everything_kept(wrap), keras.losses.MeanSquaredError())
    train(straight)
    straight.save(tmp_path / "half.h5")
    resumed = keras.saving.load_model(tmp_path / "half.h5")
    train(straight)
    train(resumed)
    assert type(resumed.optimizer) is type(straight.optimizer)
    assert_trained_alike(resumed, straight)


@pytest.mark.parametrize("wrap", sampled(WRAPS, [WRAPS[3]], pytest.mark.slow))
def test_weights_set_between_loading_and_the_first_step_are_noticed(wrap, tmp_path):
    straight = hidden()
    straight.compile(everything_kept(wrap), keras.losses.MeanSquaredError())
    train(straight)
    straight.save(tmp_path / "half.keras")
    resumed = keras.saving.load_model(tmp_path / "half.keras")
    for model in (straight, resumed):
        model.layers[0].kernel.assign(model.layers[0].kernel + 1.0)
        train(model)
    assert_trained_alike(resumed, straight)


def saved_as_h5(path, optimizer=None):
    model = hidden()
    model.compile(optimizer or kopt.Adam(0.1), keras.losses.MeanSquaredError())
    train(model)
    model.save(path)
    return keras.saving.load_model(path)


@pytest.mark.parametrize("make", [kopt.Muon, lambda: kopt.MomentumSAM(kopt.Adam())])
def test_a_build_on_nothing_waits_for_variables(make):
    optimizer = make()
    optimizer.build([])
    assert not optimizer.built


def test_an_h5_file_of_a_model_that_was_not_trained_loads_in_silence(tmp_path):
    model = hidden()
    model.compile(kopt.Adam(0.25), keras.losses.MeanSquaredError())
    model.save(tmp_path / "new.h5")
    loaded = keras.saving.load_model(tmp_path / "new.h5")
    train(model)
    train(loaded)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def state_in_waiting(wrap):
    """An optimizer with state for one variable, and no model that tells which."""
    trained, optimizer = wrap(kopt.Adam(0.1)), wrap(kopt.Adam(0.1))
    trained.build([keras.Variable([1.0])])
    optimizer.set_weights([variable.numpy() for variable in trained.variables])
    return optimizer


@pytest.mark.parametrize("wrap", [lambda o: o, kopt.Lookahead])
def test_state_that_does_not_fit_is_refused_at_the_first_step(wrap):
    optimizer = state_in_waiting(wrap)
    with pytest.raises(ValueError, match=r"Nothing was set.*build\(model.train"):
        optimizer.apply([tf.ones(2)], [keras.Variable([1.0, 2.0])])


@pytest.mark.parametrize("wrap", [lambda o: o, kopt.Lookahead])
def test_state_that_waits_is_not_saved_by_half(wrap):
    with pytest.raises(ValueError, match=r"cannot be saved before it is taken up"):
        state_in_waiting(wrap).save_own_variables({})


@pytest.mark.parametrize("wrap", [lambda o: o, kopt.Lookahead])
def test_layers_are_frozen_after_an_h5_file_has_been_read(wrap, tmp_path):
    straight = hidden()
    straight.compile(wrap(kopt.Adam(0.1)), keras.losses.MeanSquaredError())
    train(straight)
    straight.save(tmp_path / "model.h5")
    resumed = keras.saving.load_model(tmp_path / "model.h5")
    for model in (straight, resumed):
        model.layers[0].trainable = False
        model.compile(model.optimizer, keras.losses.MeanSquaredError())
        train(model)
    assert_trained_alike(resumed, straight)


@pytest.mark.parametrize("wrap", [lambda o: o, kopt.Lookahead])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_an_h5_file_that_has_been_read_is_saved_at_once(suffix, wrap, tmp_path):
    straight = saved_as_h5(tmp_path / "model.h5", wrap(kopt.Adam(0.1)))
    straight.save(tmp_path / f"again{suffix}")
    again = keras.saving.load_model(tmp_path / f"again{suffix}")
    for model in (straight, again):
        train(model)
    assert int(again.optimizer.iterations) == 6
    assert_trained_alike(again, straight)


def test_a_fresh_start_after_a_build_on_nothing_is_not_silent():
    # So it goes inside of `LossScaleOptimizer`, which keeps the state to itself.
    optimizer, weight = kopt.Adam(0.1), keras.Variable([1.0])
    optimizer.build([])
    assert not optimizer.built
    with pytest.warns(UserWarning, match=r"starts from a fresh state.*`\.keras` file"):
        optimizer.apply([tf.ones(1)], [weight])


@pytest.mark.parametrize("wrap", [lambda o: o, kopt.Lookahead])
def test_a_reset_forgets_state_that_waits(wrap, tmp_path):
    model = saved_as_h5(tmp_path / "model.h5", wrap(kopt.Adam(0.1)))
    model.optimizer.reset()
    model.optimizer.build(model.trainable_variables)
    assert int(model.optimizer.iterations) == 0


def test_set_weights_takes_all_values_or_none():
    optimizer = kopt.Adam()
    optimizer.build([keras.Variable([1.0, 2.0])])
    before = [variable.numpy() for variable in optimizer.variables]
    values = [np.ones_like(value) for value in before]
    with pytest.raises(ValueError, match="Nothing was set"):
        optimizer.set_weights([*values[:-1], np.ones(3)])
    for variable, value in zip(optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    optimizer.set_weights(values)
    assert all(np.all(variable.numpy() == 1) for variable in optimizer.variables)
