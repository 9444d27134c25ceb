"""Every flag on every optimizer of the registry.

A flag is a rule around the formula, so each test compares an optimizer that has it with
the same optimizer without, to which the rule was applied by hand, in NumPy.
"""

import keras
import numpy as np
import pytest

import kopt
from tests.conformance.test_optimizers import (
    OPTIMIZERS,
    each_kind,
    each_optimizer,
    make,
)
from tests.reference.optimizers import trajectory

RATE = 2.0**-5
DECAY = 0.25


def arguments(name):
    """What a method needs to move the small weights; decay is off unless asked for."""
    return {
        **getattr(trajectory.module_of(name), "TRAINS", {}),
        "learning_rate": RATE,
        **dict.fromkeys(_decays(name)),
    }


def _decays(name):
    own = {"weight_decay", "adam_weight_decay"}
    return sorted(own & set(make(name).get_config()))


def stream(steps=3):
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=s).astype("float32") for s in [(4, 6), (5,)]]
    gradients = [
        [generator.normal(size=w.shape).astype("float32") * 2 for w in weights]
        for _ in range(steps)
    ]
    return weights, gradients


class Run:
    """An optimizer with variables of its own."""

    def __init__(self, name, weights, **flags):
        self.optimizer = make(name, **{**arguments(name), **flags})
        self.variables = [keras.Variable(w) for w in weights]
        self.optimizer.build(self.variables)

    @property
    def weights(self):
        return [variable.numpy() for variable in self.variables]

    def step(self, gradients):
        tensors = [keras.ops.convert_to_tensor(g, "float32") for g in gradients]
        self.optimizer.apply(tensors, self.variables)


def unit_norm(array):
    axes = tuple(range(array.ndim - 1)) or None
    return np.sqrt(np.sum(array**2, axis=axes, keepdims=True))


def adaptively_clipped(gradient, weights):
    limit = 0.1 * np.maximum(unit_norm(weights), 1e-3)
    return gradient * np.minimum(1, limit / np.maximum(unit_norm(gradient), 1e-6))


def shortened(gradients, limit):
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
    return [g * min(1, limit / norm) for g in gradients]


#: A flag, and what it does to the gradients of a step where the weights are known.
ON_GRADIENTS = {
    "clipvalue": ({"clipvalue": 0.5}, lambda g, w: [np.clip(x, -0.5, 0.5) for x in g]),
    "clipnorm": ({"clipnorm": 1.0}, lambda g, w: [shortened([x], 1.0)[0] for x in g]),
    "global_clipnorm": ({"global_clipnorm": 1.0}, lambda g, w: shortened(g, 1.0)),
    "gradient_centralization": (
        {"gradient_centralization": True},
        lambda g, w: [x - x.mean(axis=0) if x.ndim > 1 else x for x in g],
    ),
    "agc": (
        {"agc": 0.1},
        lambda g, w: [adaptively_clipped(*pair) for pair in zip(g, w, strict=True)],
    ),
    "loss_scale_factor": ({"loss_scale_factor": 8.0}, lambda g, w: [x / 8 for x in g]),
}


@each_kind
@pytest.mark.parametrize("flag", ON_GRADIENTS)
def test_a_flag_on_gradients_is_what_was_done_to_them_before(name, flag):
    flags, rule = ON_GRADIENTS[flag]
    weights, gradients = stream()
    flagged, plain = Run(name, weights, **flags), Run(name, weights)
    for step in gradients:
        plain.step(rule(step, flagged.weights))
        flagged.step(step)
    for one, two in zip(flagged.weights, plain.weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=5e-6)


@each_optimizer
def test_l2_decay_is_a_part_of_the_gradient(name):
    weights, gradients = stream()
    decay = {decay: DECAY for decay in _decays(name)}
    flagged = Run(name, weights, **decay, weight_decay_mode="l2")
    plain = Run(name, weights)
    for step in gradients:
        plain.step([g + DECAY * w for g, w in zip(step, flagged.weights, strict=True)])
        flagged.step(step)
    for one, two in zip(flagged.weights, plain.weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=5e-6)


@each_optimizer
@pytest.mark.parametrize(
    ("mode", "same"), [("independent", DECAY / RATE), ("corrected", DECAY)]
)
def test_at_a_constant_rate_decay_modes_differ_by_a_factor(name, mode, same):
    weights, gradients = stream()
    decays = _decays(name)
    flagged = Run(name, weights, **dict.fromkeys(decays, DECAY), weight_decay_mode=mode)
    decoupled = Run(name, weights, **dict.fromkeys(decays, same))
    undecayed = Run(name, weights)
    for step in gradients:
        for run in (flagged, decoupled, undecayed):
            run.step(step)
    for one, two, three in zip(
        flagged.weights, decoupled.weights, undecayed.weights, strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=5e-6)
        assert np.max(np.abs(one - three)) > 1e-5


@each_optimizer
def test_cautious_decay_takes_from_weights_that_go_to_zero_anyway(name):
    weights, (gradients, *_) = stream()
    decays = dict.fromkeys(_decays(name), DECAY)
    try:
        flagged = Run(name, weights, **decays, weight_decay_mode="cautious")
    except ValueError as error:
        assert "cautious" in str(error)
        pytest.skip("the method refuses it, and says why")
    plain = Run(name, weights)
    flagged.step(gradients)
    plain.step(gradients)
    for start, one, two in zip(weights, flagged.weights, plain.weights, strict=True):
        shrinks = (start - two) * start >= 0
        expected = two - shrinks * RATE * DECAY * start
        np.testing.assert_allclose(one, expected, rtol=0, atol=5e-6)


@each_optimizer
def test_a_cautious_step_leaves_out_what_goes_against_the_gradient(name):
    weights, gradients = stream()
    flagged, plain = Run(name, weights, cautious=True), Run(name, weights)
    # Both have the same state after one step; the weights are put back.
    for run in (flagged, plain):
        run.step(gradients[0])
        for variable, start in zip(run.variables, weights, strict=True):
            variable.assign(start)
        run.step([-g + 0.5 * h for g, h in zip(*gradients[:2], strict=True)])
    last = [-g + 0.5 * h for g, h in zip(*gradients[:2], strict=True)]
    for start, g, one, two in zip(
        weights, last, flagged.weights, plain.weights, strict=True
    ):
        direction = start - two
        mask = direction * g > 0
        expected = start - direction * mask / max(mask.mean(), 1e-3)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-5)


@each_optimizer
def test_a_groups_factor_scales_its_steps_and_frozen_ones_stay(name):
    weights, (gradients, *_) = stream()
    half = kopt.ParamGroup(lambda v: len(v.shape) == 2, learning_rate_multiplier=0.5)
    frozen = kopt.ParamGroup(lambda v: len(v.shape) == 1, frozen=True)
    grouped = Run(name, weights, param_groups=[half, frozen])
    plain = Run(name, weights)
    grouped.step(gradients)
    plain.step(gradients)
    moved, expected = weights[0] - grouped.weights[0], weights[0] - plain.weights[0]
    np.testing.assert_allclose(moved, 0.5 * expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(grouped.weights[1], weights[1])


def test_the_stream_moves_every_optimizer():
    weights, gradients = stream()
    for name in OPTIMIZERS:
        run = Run(name, weights)
        for step in gradients:
            run.step(step)
        for start, end in zip(weights, run.weights, strict=True):
            assert np.max(np.abs(start - end)) > 1e-4, name


def test_the_decay_of_every_optimizer_is_found():
    assert all("weight_decay" in _decays(name) for name in OPTIMIZERS)
