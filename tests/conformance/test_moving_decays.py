"""Decays that move while an optimizer trains, against the references.

Every optimizer that says it lets a decay of its first moment move is tested here, from
the registry.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt import _registry
from tests.conformance.test_optimizers import (
    OPTIMIZERS,
    flat,
    make,
    options_of,
    stream_of,
    tolerance,
)
from tests.reference.optimizers import trajectory
from tests.sampling import sampled

MOVING = [
    (name, moved)
    for name in OPTIMIZERS
    for moved in _registry.entry("optimizers", name).may_move
] + [("Adafactor", "beta_1")]
USUAL = [("Adam", "beta_1"), ("Lion", "beta_1"), ("MARS", "beta_1_1d")]
each_decay = pytest.mark.parametrize(
    ("name", "moved"), sampled(MOVING, USUAL, others=pytest.mark.slow)
)
# What a formula does with the number is seen above; here, that it is the same number.
some_decays = pytest.mark.parametrize(("name", "moved"), sampled(MOVING, USUAL))
RATE = 2.0**-6


def case_of(name, moved):
    """The reference's first case, with a decay to start from."""
    return {**trajectory.module_of(name).CASES[0], moved: 0.9}


def values(steps):
    """Down and up again, as in one cycle; exact in float32."""
    share = np.abs(np.linspace(-1.0, 1.0, steps))
    return np.float32(0.7 + 0.25 * share).astype("float64")


def run_moving(optimizer, moved, decays, weights, gradients, jit_compile=None):
    """Weights and states after a stream, through one compiled function."""
    variables = [keras.Variable(w, dtype="float32") for w in weights]
    optimizer.build(variables)
    scalar = optimizer.let_move(moved)

    @tf.function(jit_compile=jit_compile)
    def step(*gradients):
        optimizer.apply(list(gradients), variables)

    for gradient, decay in zip(gradients, decays, strict=True):
        scalar.assign(decay)
        step(*[tf.constant(g, "float32") for g in gradient])
    assert step.experimental_get_tracing_count() == 1
    states = [
        {slot: s.numpy() for slot, s in optimizer.state(v).items()} for v in variables
    ]
    return [variable.numpy() for variable in variables], states


@each_decay
def test_a_moving_decay_gives_the_reference_with_that_decay_at_each_step(name, moved):
    case = case_of(name, moved)
    weights, gradients = stream_of(name)
    decays = values(len(gradients))
    optimizer = make(name, options_of(case), learning_rate=RATE)
    found, states = run_moving(optimizer, moved, decays, weights, gradients)
    expected, expected_states, _ = trajectory.run(
        name,
        weights,
        gradients,
        [RATE] * len(gradients),
        **options_of(case),
        moving={moved: decays},
    )
    limit = tolerance(name, 2e-6)
    assert trajectory.distance(found, expected, weights) < limit
    momenta = [[s["momentum"] for s in of] for of in (states, expected_states)]
    assert trajectory.distance(*momenta) < 10 * limit
    still, _, _ = trajectory.run(
        name, weights, gradients, [RATE] * len(gradients), **options_of(case)
    )
    assert trajectory.distance(found, still, weights) > 100 * limit


@some_decays
def test_a_decay_that_could_move_and_does_not_takes_the_steps_of_one_that_cannot(
    name, moved
):
    case = {moved: 0.875}  # exact in float32
    weights, gradients = stream_of(name)
    first = make(name, case, learning_rate=RATE)
    found = run_moving(first, moved, [0.875] * len(gradients), weights, gradients)
    variables = [keras.Variable(w, dtype="float32") for w in weights]
    second = make(name, case, learning_rate=RATE)
    for gradient in gradients:
        second.apply([tf.constant(g, "float32") for g in gradient], variables)
    assert moved not in second.hyperparameters
    states = [{k: s.numpy() for k, s in second.state(v).items()} for v in variables]
    expected = [variable.numpy() for variable in variables]
    assert trajectory.distance(found[0], expected, weights) < tolerance(name, 2e-6)
    assert trajectory.distance(flat(found[1]), flat(states)) < 1e-4


@pytest.mark.parametrize("name", ["Adam", "AdEMAMix", "Lion"])
@pytest.mark.parametrize("size", [3, 70_000])
def test_compiled_by_xla_it_is_the_same(name, size):
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=size)]
    gradients = [[generator.normal(size=size)] for _ in range(6)]
    found = [
        run_moving(make(name), "beta_1", values(6), weights, gradients, compiled)[0]
        for compiled in (None, True)
    ]
    assert trajectory.distance(*found) < 2e-6


@some_decays
def test_the_attribute_and_the_configuration_read_the_variable(name, moved):
    variable = keras.Variable([1.0, 2.0])
    optimizer = make(name, {moved: 0.9})
    assert getattr(optimizer, moved) == 0.9
    optimizer.build([variable])
    held = len(optimizer.variables)
    scalar = optimizer.let_move(moved)
    assert optimizer.let_move(moved) is scalar
    assert len(optimizer.variables) == held + 1
    assert getattr(optimizer, moved) == optimizer.get_config()[moved] == 0.9
    scalar.assign(0.75)
    assert getattr(optimizer, moved) == optimizer.get_config()[moved] == 0.75
    assert getattr(type(optimizer).from_config(optimizer.get_config()), moved) == 0.75


def test_what_cannot_move_and_what_is_not_built_is_said():
    with pytest.raises(ValueError, match=r"SGD has no argument 'beta_1'.*has: none"):
        make("SGD").let_move("beta_1")
    with pytest.raises(ValueError, match=r"Call `optimizer\.build"):
        make("Adam").let_move("beta_1")
    with pytest.raises(ValueError, match="It has: ema_momentum"):
        make("SGD", {"use_ema": True}).let_move("momentum")
