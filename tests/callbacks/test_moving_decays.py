"""Decays that callbacks move: `beta_1`, and those of averages of the weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import BackupAndRestore, FitSchedule, OneCycle
from kopt.schedules import Constant, Cosine, Linear
from tests.callbacks.test_fit_schedule import X, Y, assert_same_weights, dense_model
from tests.interruption import Cut, CutOff

FALL = Linear(0.95, steps=1.0, final=0.5)


def fit(model, *callbacks, epochs=2, **arguments):
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **arguments)


def falling(steps):
    return [0.95 + (0.5 - 0.95) * step / steps for step in range(steps)]


#: Where ten steps end, as a variable holds it.
END = pytest.approx(falling(10)[-1], rel=1e-6)


class Watch(keras.callbacks.Callback):
    """Notes the weights after each batch, and an attribute of the optimizer."""

    def __init__(self, name="beta_1"):
        super().__init__()
        self.name, self.values, self.weights = name, [], []

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        while not hasattr(optimizer, self.name):
            optimizer = optimizer.inner_optimizer
        self.values.append(getattr(optimizer, self.name))
        self.weights.append(self.model.layers[0].kernel.numpy())


@pytest.mark.parametrize("name", ["Adam", "AdamW", "LAMB", "Muon"])
def test_a_driven_beta_acts_like_a_set_one(name):
    beta = "adam_beta_1" if name == "Muon" else "beta_1"
    make = getattr(kopt, name)
    driven = dense_model(make(0.1, **{beta: 0.9}))
    history = fit(driven, FitSchedule(Constant(0.25), target=beta)).history
    fixed = dense_model(make(0.1, **{beta: 0.25}))
    fit(fixed)
    for weight, same in zip(driven.weights, fixed.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), same.numpy(), rtol=1e-5)
    assert history[beta] == [0.25, 0.25]


def test_a_model_that_was_trained_without_it_moves_it_in_the_next_fit():
    model, watch = dense_model(kopt.Adam(0.1)), Watch()
    fit(model, watch)
    assert watch.values == [0.9] * 10
    moved, watch = dense_model(kopt.Adam(0.1)), Watch()
    fit(moved)
    fit(moved, FitSchedule(FALL, target="beta_1"), watch)
    np.testing.assert_allclose(watch.values, falling(10), rtol=1e-6)
    fit(model)
    assert not np.allclose(model.layers[0].kernel, moved.layers[0].kernel)


OPTIMIZERS = {
    "wrapped": lambda: kopt.WeightAverage(kopt.Adam(0.1)),
    "twice": lambda: kopt.WeightAverage(kopt.Lookahead(kopt.RAdam(0.1))),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(kopt.Adam(0.1)),
    "accumulating": lambda: kopt.Adam(0.1, gradient_accumulation_steps=2),
    "groups": lambda: kopt.Adam(0.1, param_groups=[kopt.ParamGroup("bias", 0.5)]),
    "Lion": lambda: kopt.Lion(0.1),
    "Adafactor": lambda: kopt.Adafactor(0.1, beta_1=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_cycle_moves_beta_against_the_rate(name):
    cycle, watch = OneCycle(0.1, kind="linear", rise=0.5), Watch()
    fit(dense_model(OPTIMIZERS[name]()), cycle, watch)
    wanted = [0.95 - 0.1 * min(step, 10 - step) / 5 for step in range(10)]
    np.testing.assert_allclose(watch.values, wanted, rtol=1e-6)
    assert cycle.moves == ("learning_rate", "beta_1")


@pytest.mark.slow
def test_groups_keep_their_own_rates_beside_a_moving_beta():
    group = kopt.ParamGroup("bias", 0.0)
    model = dense_model(kopt.Adam(0.1, param_groups=[group]))
    bias = model.layers[0].bias.numpy()
    fit(model, FitSchedule(FALL, target="beta_1"))
    np.testing.assert_array_equal(model.layers[0].bias.numpy(), bias)


def test_accumulated_gradients_take_the_beta_of_their_last_batch():
    # Means over two equal batches are those batches, so a run of half as many updates
    # with every second value is the same run.
    curves = {2: FALL.bind(8), None: Linear(0.89375, steps=4, final=0.44375)}
    models = []
    for every, curve in curves.items():
        model = dense_model(kopt.Adam(0.1, gradient_accumulation_steps=every))
        data = tf.data.Dataset.from_tensors((X, Y)).repeat(4 * (every or 1))
        model.fit(
            data,
            shuffle=False,
            verbose=0,
            callbacks=[FitSchedule(curve, target="beta_1")],
        )
        models.append(model)
    for one, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5)


def test_two_replicas_train_as_one_device(two_replicas):
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = dense_model(kopt.Adam(0.05, use_ema=True))
        curves = [FitSchedule(FALL, target=t) for t in ("beta_1", "ema_momentum")]
        fit(model, *curves)
        weights.append(model.get_weights())
        for name in ("beta_1", "ema_momentum"):
            variable = model.optimizer.hyperparameters[name].value
            copies = strategy.experimental_local_results(variable)
            assert [float(copy) for copy in copies] == [END] * len(copies)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 2])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_all_ways_to_compile_a_step_move_it(steps_per_execution, jit_compile):
    models = []
    for options in ({}, {"jit_compile": jit_compile}):
        model = dense_model(
            kopt.Adam(0.1), steps_per_execution=steps_per_execution, **options
        )
        fit(model, FitSchedule(FALL, target="beta_1"))
        models.append(model)
    for one, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5)


def decays(kind):
    """A model with an average, whose momentum is called `ema_momentum`, and a curve."""
    if kind == "use_ema":
        return kopt.SGD(0.1, use_ema=True, ema_momentum=0.9)
    return kopt.WeightAverage(kopt.SGD(0.1, momentum=0.9), momentum=0.9)


@pytest.mark.parametrize("kind", ["use_ema", "WeightAverage"])
def test_the_decay_of_an_average_moves(kind):
    optimizer, watch = decays(kind), Watch("ema_momentum")
    model = dense_model(optimizer)
    fit(model, FitSchedule(FALL, target="ema_momentum"), watch)
    np.testing.assert_allclose(watch.values, falling(10), rtol=1e-6)
    average = watch.weights[0].astype("float64")
    for weights, decay in zip(watch.weights[1:], falling(10)[1:], strict=True):
        average = decay * average + (1 - decay) * weights
    # `fit` has left the model at the average.
    np.testing.assert_allclose(model.layers[0].kernel.numpy(), average, rtol=1e-5)


def test_the_momentum_inside_of_an_average_is_not_that_of_the_average():
    optimizer = decays("WeightAverage")
    fit(dense_model(optimizer), FitSchedule(FALL, target="momentum"))
    assert optimizer.momentum == 0.9
    assert optimizer.inner_optimizer.momentum == END
    cycle = OneCycle(0.1)
    fit(dense_model(decays("WeightAverage")), cycle)
    assert cycle.moves == ("learning_rate", "momentum")


def test_an_average_that_stands_still_at_the_end_of_its_curve_is_saved(tmp_path):
    # As in the training of a teacher by its student.
    model = dense_model(decays("WeightAverage"))
    fit(model, FitSchedule(Cosine(0.9, steps=9, final=1.0), target="ema_momentum"))
    assert model.optimizer.momentum == 1.0
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").optimizer.momentum == 1.0


@pytest.mark.parametrize("kind", ["beta_1", "use_ema", "WeightAverage"])
def test_saved_and_loaded_half_way_it_ends_as_if_never_stopped(kind, tmp_path):
    target = "beta_1" if kind == "beta_1" else "ema_momentum"

    def model():
        return dense_model(kopt.Adam(0.1) if kind == "beta_1" else decays(kind))

    def curve():
        return FitSchedule(FALL, target=target, epochs=4)

    through, half = model(), model()
    fit(through, curve())
    fit(through, curve(), epochs=4, initial_epoch=2)
    fit(half, curve())
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    owner = loaded.optimizer
    assert getattr(owner, target) == getattr(half.optimizer, target) < 0.8
    fit(loaded, curve(), epochs=4, initial_epoch=2)
    assert_same_weights(loaded, through)


def test_a_state_loads_into_a_compiled_model_whose_beta_never_moved(tmp_path):
    moved, still = dense_model(kopt.Adam(0.1)), dense_model(kopt.Adam(0.1))
    fit(moved, FitSchedule(FALL, target="beta_1"))
    moved.save(tmp_path / "moved.keras")
    fit(still)
    still.save(tmp_path / "still.keras")
    still.load_weights(tmp_path / "moved.keras")
    assert still.optimizer.beta_1 == moved.optimizer.beta_1 == END
    fit(still)
    fit(moved)
    assert_same_weights(still, moved)
    # And one that had not moved yet into one that has.
    moved.load_weights(tmp_path / "still.keras")
    assert moved.optimizer.beta_1 == 0.9


def test_a_new_start_leaves_a_moved_beta_where_it_is():
    optimizer = kopt.Adam(0.1)
    fit(dense_model(optimizer), FitSchedule(FALL, target="beta_1"))
    optimizer.reset()
    assert optimizer.beta_1 == END


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["beta_1", "WeightAverage"])
def test_an_interrupted_run_goes_on_bit_for_bit(kind, tmp_path):
    target = "beta_1" if kind == "beta_1" else "ema_momentum"

    def model():
        return dense_model(kopt.Adam(0.1) if kind == "beta_1" else decays(kind))

    def callbacks():
        curve = FitSchedule(FALL, target=target)
        return [curve, BackupAndRestore(tmp_path / "backup", save_freq=3)]

    through, stopped, resumed = model(), model(), model()
    fit(through, *callbacks()[:1], epochs=3)
    with pytest.raises(Cut):
        fit(stopped, *callbacks(), CutOff(17), epochs=3)
    history = fit(resumed, *callbacks(), CutOff(), epochs=3).history
    assert_same_weights(resumed, through)
    np.testing.assert_array_equal(history[target], through.history.history[target])


@pytest.mark.parametrize(
    ("target", "schedule", "match"),
    [
        ("beta_1", Linear(0.9, steps=1.0, final=1.0), None),
        ("beta_1", Constant(1.0), "'beta_1' must be from 0 to less than 1 all along"),
        ("beta_1", Linear(0.9, steps=4, final=1.5), "from 0.9 to 1.5"),
        ("ema_momentum", Constant(1.0), None),
        ("ema_momentum", Constant(1.5), "'ema_momentum' must be from 0 to 1 all along"),
    ],
)
def test_a_curve_out_of_range_is_refused_at_once(target, schedule, match):
    model = dense_model(kopt.Adam(0.1, use_ema=True))
    curve = FitSchedule(schedule, target=target)
    if match is None:
        fit(model, curve)
        assert np.isfinite(model.get_weights()[0]).all()
        return
    with pytest.raises(ValueError, match=match):
        fit(model, curve)
    assert model.optimizer.iterations == 0


def test_errors_list_what_can_be_moved():
    model = dense_model(kopt.WeightAverage(kopt.AdamW(0.1), momentum=0.9))
    listed = r"It has: 'beta_1', 'ema_momentum', 'learning_rate', 'weight_decay'\."
    with pytest.raises(ValueError, match=listed):
        fit(model, FitSchedule(FALL, target="beta_9"))
    model = dense_model(keras.optimizers.Adam())
    with pytest.raises(ValueError, match=r"number 0\.9.*kopt\.Adam keeps it in one"):
        fit(model, FitSchedule(FALL, target="beta_1"))


def test_lion_at_nothing_of_its_momentum_is_sign_descent():
    # Where the gradient is zero too it stays where it is.
    model = dense_model(kopt.Lion(0.125))
    fit(model, FitSchedule(Constant(0.0), target="beta_1"), epochs=1)
    assert np.isfinite(model.get_weights()[0]).all()


def test_a_fallen_beta_takes_the_first_step_whole():
    # One gradient alone: the correction takes out whatever share the moment has of it.
    for beta in (0.0, 0.5, 0.95):
        variable = keras.Variable([1.0])
        optimizer = kopt.Adam(0.25)
        optimizer.build([variable])
        optimizer.let_move("beta_1").assign(beta)
        optimizer.apply([tf.constant([3.0])], [variable])
        np.testing.assert_allclose(variable.numpy(), [0.75], rtol=1e-5)
