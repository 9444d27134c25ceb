"""One cycle: the rate up and down, momentum against it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.callbacks import FitSchedule, LRFinder, OneCycle, ReduceOnPlateau
from kopt.schedules import Cosine

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(16, 3)).astype("float32")
Y = X @ np.ones((3, 2), "float32")
STEPS = 4


class Recorder(keras.callbacks.Callback):
    """Notes the rate and the momentum that each batch was trained with."""

    def __init__(self):
        super().__init__()
        self.rates, self.momenta = [], []

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        while hasattr(optimizer, "inner_optimizer"):
            optimizer = optimizer.inner_optimizer
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.momenta.append(float(optimizer.momentum))


def dense_model(optimizer=None, **arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer or kopt.SGD(0.1, momentum=0.9), "mse", **arguments)
    return model


def fit(model, *callbacks, epochs=3, **arguments):
    arguments = {"verbose": 0, "batch_size": 4, "shuffle": False, **arguments}
    return model.fit(X, Y, epochs=epochs, callbacks=callbacks, **arguments).history


def recorded(cycle, optimizer=None, epochs=3, compiled=None, **arguments):
    recorder = Recorder()
    fit(dense_model(optimizer, **compiled or {}), cycle, recorder, epochs=epochs)
    return recorder


def reference(steps, low, high, kind, rise=0.3, three_phases=False):
    """Momentum in float64, from the definition: where the rate rises, it falls."""
    top = round(rise * steps)
    down = min(2 * top, steps) if three_phases else steps

    def part(share):
        return share if kind == "linear" else (1.0 - np.cos(np.pi * share)) / 2.0

    values = []
    for step in range(steps):
        if step < top:
            values.append(high + (low - high) * part(step / top))
        elif step < down:
            values.append(low + (high - low) * part((step - top) / (down - top)))
        else:
            values.append(high)
    return np.array(values)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("three_phases", [False, True])
def test_rate_and_momentum_move_against_each_other(kind, three_phases):
    cycle = OneCycle(0.2, kind=kind, three_phases=three_phases, momentum=(0.7, 0.9))
    seen = recorded(cycle, epochs=5)
    schedule = kopt.schedules.OneCycle(0.2, 20, kind=kind, three_phases=three_phases)
    wanted = [float(schedule(step)) for step in range(20)]
    np.testing.assert_allclose(seen.rates, wanted, rtol=1e-6)
    wanted = reference(20, 0.7, 0.9, kind, three_phases=three_phases)
    np.testing.assert_allclose(seen.momenta, wanted, rtol=1e-6)
    assert cycle.moves == ("learning_rate", "momentum")


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("three_phases", [False, True])
def test_torch_moves_both_alike(kind, three_phases):
    torch = pytest.importorskip("torch")
    steps = 40
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1, momentum=0.9)
    # torch ends on its last step, kopt one step after it; its boundary too is one less.
    peer = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.2,
        total_steps=steps + 1,
        pct_start=(0.3 * steps + 1) / (steps + 1),
        anneal_strategy=kind[:3].replace("lin", "linear"),
        three_phase=three_phases,
    )
    rates, momenta = [], []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        rates.append(group["lr"])
        momenta.append(group["momentum"])
        optimizer.step()
        peer.step()
    seen = recorded(OneCycle(0.2, kind=kind, three_phases=three_phases), epochs=10)
    np.testing.assert_allclose(seen.rates, rates, rtol=1e-6)
    np.testing.assert_allclose(seen.momenta, momenta, rtol=1e-6)


def test_it_trains_like_two_curves_of_ones_own():
    cycled, driven = dense_model(), dense_model()
    fit(cycled, OneCycle(0.1, kind="linear", momentum=(0.85, 0.95)))
    line = kopt.schedules.Linear
    momentum = kopt.schedules.Sequential(
        [line(0.95, steps=1.0, final=0.85), line(0.85, steps=1.0, final=0.95)], [0.3]
    )
    rate = FitSchedule(kopt.schedules.OneCycle(0.1, 1.0, kind="linear"))
    fit(driven, rate, FitSchedule(momentum, target="momentum"))
    for weight, same in zip(cycled.weights, driven.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), same.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.Adam(),
        lambda: kopt.SGD(0.1),
        lambda: kopt.Adafactor(),
    ],
    ids=["a Python number", "Adam", "no momentum", "Adafactor"],
)
def test_without_a_momentum_to_move_the_rate_moves_alone(optimizer):
    cycle = OneCycle(0.1)
    history = fit(dense_model(optimizer()), cycle)
    assert cycle.moves == ("learning_rate",)
    assert "momentum" not in history and "learning_rate" in history


def test_a_momentum_that_was_asked_for_and_cannot_move_is_an_error_at_once():
    model = dense_model(keras.optimizers.SGD(0.1, momentum=0.9))
    with pytest.raises(ValueError, match=r"SGD\.momentum is the Python number 0\.9"):
        fit(model, OneCycle(0.1, momentum=(0.85, 0.95)))
    model = dense_model(kopt.Adafactor())
    with pytest.raises(ValueError, match="Adafactor has no hyper-parameter 'momentum'"):
        fit(model, OneCycle(0.1, momentum=(0.85, 0.95)))
    assert model.optimizer.iterations == 0


def test_momentum_can_be_left_alone():
    cycle = OneCycle(0.1, momentum=None)
    assert recorded(cycle).momenta == [0.9] * 12
    assert cycle.moves == ("learning_rate",)


OPTIMIZERS = {
    "wrapped": lambda: kopt.WeightAverage(kopt.SGD(0.1, momentum=0.9)),
    "twice": lambda: kopt.WeightAverage(kopt.Lookahead(kopt.SGD(0.1, momentum=0.9))),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(
        kopt.SGD(0.1, momentum=0.9)
    ),
    "accumulating": lambda: kopt.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
    "RMSprop": lambda: kopt.RMSprop(0.1, momentum=0.9),
    "Muon": lambda: kopt.Muon(0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_momentum_is_found_in_every_kind_of_optimizer(name):
    seen = recorded(OneCycle(0.1), OPTIMIZERS[name]())
    np.testing.assert_allclose(
        seen.momenta, reference(12, 0.85, 0.95, "cosine"), rtol=1e-6
    )


def test_a_batch_in_the_middle_of_an_execution_has_its_first_ones_values():
    seen = recorded(OneCycle(0.1), compiled={"steps_per_execution": 2})
    wanted = reference(12, 0.85, 0.95, "cosine")[::2]
    np.testing.assert_allclose(seen.momenta, wanted, rtol=1e-6)


def test_it_goes_on_where_initial_epoch_says():
    recorder = Recorder()
    fit(dense_model(), OneCycle(0.1), recorder, epochs=5, initial_epoch=3)
    wanted = reference(20, 0.85, 0.95, "cosine")[12:]
    np.testing.assert_allclose(recorder.momenta, wanted, rtol=1e-6)


def test_a_run_may_be_longer_than_a_fit():
    model, cycle, recorder = dense_model(), OneCycle(0.1, total_steps=24), Recorder()
    fit(model, cycle, recorder)
    fit(model, cycle, recorder)
    wanted = reference(24, 0.85, 0.95, "cosine")
    np.testing.assert_allclose(recorder.momenta, wanted, rtol=1e-6)


def test_a_plateau_scales_the_rate_of_the_cycle_and_not_its_momentum():
    plateau = ReduceOnPlateau("loss", factor=0.5, patience=1, min_delta=1e3)
    recorder = Recorder()
    fit(dense_model(), OneCycle(0.1), plateau, recorder)
    schedule = kopt.schedules.OneCycle(0.1, 12)
    rates = [float(schedule(s)) * (0.5 if s >= 8 else 1.0) for s in range(12)]
    np.testing.assert_allclose(recorder.rates, rates, rtol=1e-6)
    wanted = reference(12, 0.85, 0.95, "cosine")
    np.testing.assert_allclose(recorder.momenta, wanted, rtol=1e-6)


@pytest.mark.parametrize("target", ["learning_rate", "momentum"])
@pytest.mark.parametrize("first", [False, True])
def test_another_curve_for_one_of_both_is_an_error_that_names_both(target, first):
    callbacks = [OneCycle(0.1), FitSchedule(Cosine(0.5, steps=1.0), target=target)]
    model = dense_model()
    names = r"OneCycle\(maximum=0\.1, .*FitSchedule\(Cosine"
    if first:
        callbacks, names = callbacks[::-1], r"FitSchedule\(Cosine.*OneCycle\(max"
    with pytest.raises(ValueError, match=f"Two curves drive .*{names}"):
        fit(model, *callbacks)
    assert model.optimizer.iterations == 0


def test_two_cycles_are_one_too_many():
    cycle = OneCycle(0.1)
    for second in (cycle, OneCycle(0.2)):
        with pytest.raises(ValueError, match=r"Two curves .*OneCycle.*OneCycle"):
            fit(dense_model(), cycle, second)


def test_callbacks_of_keras_that_set_the_rate_are_refused():
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    with pytest.raises(ValueError, match="cannot run beside OneCycle"):
        fit(dense_model(), OneCycle(0.1), scheduler)


def test_a_sweep_beside_it_is_refused():
    with pytest.raises(ValueError, match="OneCycle, which drives the learning rate"):
        fit(dense_model(), LRFinder(steps=10), OneCycle(0.1), epochs=10)


def test_the_cycle_of_some_minutes_is_at_its_end_when_they_are_over():
    cycle = OneCycle(0.01, minutes=0.02)
    history = fit(dense_model(), cycle, epochs=100_000)
    assert history["learning_rate"][-1] < 1e-3 and history["momentum"][-1] > 0.94


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"maximum": 0.0}, ValueError, "`maximum` must be"),
        ({"rise": 1.5}, ValueError, "`rise` must be"),
        ({"kind": "square"}, ValueError, "`kind` must be one of"),
        ({"momentum": 0.9}, TypeError, "the lowest and the highest value"),
        ({"momentum": "automatic"}, TypeError, "'auto' or None"),
        ({"momentum": (0.9, 0.85)}, ValueError, r"`momentum\[1\]` must be"),
        ({"momentum": (0.9, 1.0)}, ValueError, r"`momentum\[1\]` must be"),
        ({"epochs": 3, "minutes": 1.0}, ValueError, "Give one of them"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error, match):
    with pytest.raises(error, match=match):
        OneCycle(**{"maximum": 0.1, **arguments})


def test_two_replicas_train_as_one_device(two_replicas):
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = dense_model()
        fit(model, OneCycle(0.05))
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-6)
