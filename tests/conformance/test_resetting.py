"""`reset` brings every optimizer of the registry back to before its first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from tests.conformance.test_optimizers import OPTIMIZERS, first_case
from tests.conformance.test_optimizers import make as make_optimizer
from tests.conformance.test_wrappers import WRAPPERS, make
from tests.reference.optimizers import trajectory
from tests.sampling import sampled

KINDS = {
    **{
        name: (lambda name=name, **o: make_optimizer(name, {**first_case(name), **o}))
        for name in OPTIMIZERS
    },
    **{name: (lambda name=name, **o: make(name, **o)) for name in WRAPPERS},
    "around Keras": lambda **o: kopt.Lookahead(
        keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.5, **o)
    ),
    "two wrappers": lambda **o: kopt.MomentumSAM(
        kopt.WeightAverage(kopt.Adam(0.1, **o), start=3)
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)

FLAGS = {
    "nothing": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "averages": {"use_ema": True, "ema_overwrite_frequency": 3},
    "bfloat16": {"bf16_rounding": "kahan", "weight_decay": 0.01},
}


def story(optimizer, variables, step):
    """Five steps, and the end of a `fit`; the weights before the end and after."""
    _, gradients = trajectory.stream(shapes=[(5, 3), (4,)], steps=5)
    for gradient in gradients:
        step([tf.constant(g, variables[0].dtype) for g in gradient])
    trained = [variable.numpy() for variable in variables]
    optimizer.finalize_variable_values(variables)
    return [*trained, *[variable.numpy() for variable in variables]]


def runs(optimizer, dtype="float32", between=lambda: None):
    """The same story twice, with a reset between."""
    first, _ = trajectory.stream(shapes=[(5, 3), (4,)], steps=1)
    variables = [keras.Variable(value, dtype=dtype) for value in first]
    optimizer.build(variables)

    @tf.function
    def step(gradients):
        optimizer.apply(gradients, variables)

    results = []
    for _ in range(2):
        results.append(story(optimizer, variables, step))
        between()
        optimizer.reset()
        for variable, value in zip(variables, first, strict=True):
            variable.assign(value)
    assert step.experimental_get_tracing_count() == 1
    return results


@each_kind
def test_the_run_after_a_reset_is_the_first_one_bit_for_bit(kind):
    for one, other in zip(*runs(KINDS[kind]()), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("kind", "flag"),
    sampled(
        [
            (kind, flag)
            for flag in ("accumulation", "averages", "bfloat16")
            for kind in KINDS
            if flag == "accumulation" or kind in OPTIMIZERS
        ],
        [("Adam", flag) for flag in FLAGS] + [("ScheduleFree", "accumulation")],
    ),
)
def test_flags_are_reset_too(kind, flag):
    dtype = "bfloat16" if flag == "bfloat16" else "float32"
    for one, other in zip(*runs(KINDS[kind](**FLAGS[flag]), dtype), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", sampled(KINDS, ["Prodigy", "Mechanic", "Lookahead"]))
def test_every_variable_is_as_it_was_built(kind):
    variables = [keras.Variable(np.ones((5, 3))), keras.Variable(np.ones(4))]
    optimizer = KINDS[kind]()
    optimizer.build(variables)
    before = [variable.numpy() for variable in optimizer.variables]
    for _ in range(4):
        optimizer.apply([tf.ones((5, 3)), tf.ones(4)], variables)
    optimizer.reset()
    for variable, value in zip(optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_settings_stay_as_they_are():
    group = kopt.ParamGroup(lambda v: True, learning_rate_multiplier=1.0)
    optimizer = kopt.Lookahead(
        kopt.SGD(0.1, momentum=0.9, weight_decay=0.1, param_groups=[group])
    )
    inner = optimizer.inner_optimizer
    optimizer.build([keras.Variable([1.0])])
    optimizer.learning_rate = 0.5
    inner.momentum, inner.weight_decay = 0.25, 0.0
    group.learning_rate_multiplier = 0.125
    optimizer.reset()
    assert float(optimizer.learning_rate) == 0.5
    assert inner.get_config()["momentum"] == 0.25
    assert inner.get_config()["weight_decay"] == 0.0
    assert group.factor == 0.125 == float(inner.plan(0).factor.numpy())


def test_nothing_is_reset_before_there_is_a_state():
    for optimizer in (kopt.Adam(), kopt.Lookahead(kopt.Adam()), kopt.ScheduleFreeSGD()):
        optimizer.reset()
        assert not optimizer.built


@pytest.mark.parametrize("kind", ["Adam", "ScheduleFreeAdamW"])
def test_folds_of_a_cross_validation_are_alike(kind):
    # With one compiled model for all folds.
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(getattr(kopt, kind)(1e-2), "mse")
    first, losses = model.get_weights(), []
    for _ in range(2):
        model.set_weights(first)
        model.optimizer.reset()
        losses.append(
            model.fit(x, x[:, :1], epochs=3, shuffle=False, verbose=0).history["loss"]
        )
    assert losses[0] == losses[1]
