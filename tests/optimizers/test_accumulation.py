"""Gradient accumulation, where each variable counts the gradients that it received.

Gradient descent shows the mean of the gradients bare.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt


def apply(optimizer, *pairs):
    """One batch; a gradient is a number or `None`."""
    gradients = [None if g is None else tf.constant([g]) for g, _ in pairs]
    optimizer.apply(gradients, [variable for _, variable in pairs])


def built(count=2, **options):
    variables = [keras.Variable([1.0]) for _ in range(count)]
    options = {"learning_rate": 1.0, "gradient_accumulation_steps": 2, **options}
    optimizer = kopt.SGD(**options)
    optimizer.build(variables)
    return optimizer, variables


def values(variables):
    return [variable.numpy()[0] for variable in variables]


def test_two_lists_in_turns_both_move():
    optimizer, (a, b) = built()
    for _ in range(4):
        apply(optimizer, (0.1, a))
        apply(optimizer, (0.1, b))
    # Two updates of the mean 0.1 each.
    np.testing.assert_allclose(values([a, b]), [0.8, 0.8], rtol=1e-6)


def test_two_lists_in_turns_are_two_lists_of_large_batches():
    # The steps of Adam depend on their number, so `iterations` must count alike.
    runs = []
    for steps in (None, 3):
        variables = [keras.Variable([1.0, 2.0]), keras.Variable([3.0])]
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        optimizer = kopt.Adam(schedule, gradient_accumulation_steps=steps)
        optimizer.build(variables)
        for update in range(6):
            for _ in range(steps or 1):
                for variable in variables:
                    gradient = tf.ones(variable.shape) * (1.0 + update)
                    optimizer.apply([gradient], [variable])
        assert int(optimizer.iterations) == 12
        runs.append([variable.numpy() for variable in variables])
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_batch_without_a_gradient_leaves_the_sum_of_a_variable_alone():
    optimizer, (a, b) = built()
    apply(optimizer, (0.2, a), (0.2, b))
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        apply(optimizer, (0.4, a), (None, b))
    # The mean over the two gradients of `a`; `b` has received one.
    np.testing.assert_allclose(values([a, b]), [0.7, 1.0], rtol=1e-6)
    apply(optimizer, (0.1, a), (0.6, b))
    np.testing.assert_allclose(values([a, b]), [0.7, 0.6], rtol=1e-6)
    apply(optimizer, (0.1, a), (0.1, b))
    np.testing.assert_allclose(values([a, b]), [0.6, 0.6], rtol=1e-6)


def test_a_variable_that_two_lists_share_counts_the_batches_of_both():
    optimizer, (trunk, a, b) = built(3)

    @tf.function
    def step():
        apply(optimizer, (0.2, trunk), (0.2, a))
        apply(optimizer, (0.4, trunk), (0.4, b))

    step()
    np.testing.assert_allclose(values([trunk, a, b]), [0.7, 1.0, 1.0], rtol=1e-6)
    step()
    np.testing.assert_allclose(values([trunk, a, b]), [0.4, 0.8, 0.6], rtol=1e-6)


def test_the_joint_norm_is_that_of_the_variables_that_are_updated():
    optimizer, (a, b) = built(global_clipnorm=0.1)
    apply(optimizer, (30.0, b))
    apply(optimizer, (0.3, a), (4.0, b))
    # Of `b` alone; the sum of `a` waits.
    np.testing.assert_allclose(values([a, b]), [1.0, 0.9], rtol=1e-6)


def test_an_estimate_for_all_variables_is_that_of_those_that_are_updated():
    def estimates(every, batches):
        variables = [keras.Variable([1.0]) for _ in range(2)]
        optimizer = kopt.Prodigy(d0=0.1, gradient_accumulation_steps=every)
        optimizer.build(variables)
        for places in batches:
            apply(optimizer, *((1.0, variables[place]) for place in places))
        return optimizer.shared_state["d"].numpy(), *values(variables)

    # From the second batch on one of the two is updated, while the other waits.
    parts = estimates(2, [(0,), *[(0, 1)] * 5])
    whole = estimates(None, [(0,), (1,), (0,), (1,), (0,)])
    assert parts[0] > 0.11
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_decay_averages_and_constraints_leave_a_variable_that_waits():
    variables = [keras.Variable([2.0]), keras.Variable([2.0])]
    options = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 1}
    optimizer = kopt.SGD(
        0.1, gradient_accumulation_steps=2, weight_decay=0.5, momentum=0.9, **options
    )
    optimizer.build(variables)
    for variable in variables:
        variable.constraint = lambda w: keras.ops.minimum(w, 1.0)
    a, b = variables
    apply(optimizer, (0.5, b))
    apply(optimizer, (0.5, a), (0.5, b))
    assert a.numpy()[0] == 2.0
    assert b.numpy()[0] < 1.5


def in_turns_under(strategy):
    """Three batches for each of two lists that share a variable."""
    with strategy.scope():
        optimizer, (trunk, a, b) = built(3, global_clipnorm=0.5)

    def on_replica():
        count = tf.distribute.get_strategy().num_replicas_in_sync
        apply(optimizer, (0.2 / count, trunk), (0.2 / count, a))
        apply(optimizer, (0.4 / count, trunk), (0.9 / count, b))

    @tf.function
    def step():
        strategy.run(on_replica)

    for _ in range(3):
        step()
    return values([trunk, a, b])


def test_two_replicas_accumulate_as_one_device_does(two_replicas):
    one = in_turns_under(tf.distribute.get_strategy())
    two = in_turns_under(two_replicas)
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert all(value < 1.0 for value in one)


def test_a_state_of_before_each_variable_counted_is_read():
    # All had accumulated as many.
    optimizer, variables = built()
    for _ in range(3):
        apply(optimizer, *[(0.2, variable) for variable in variables])
    store = {}
    optimizer.save_own_variables(store)
    del store["accumulated"]
    other, same = built()
    other.load_own_variables(store)
    for variable, value in zip(same, values(variables), strict=True):
        variable.assign([value])
    for run in ((optimizer, variables), (other, same)):
        apply(run[0], *[(0.4, variable) for variable in run[1]])
    assert values(same) == values(variables)
    np.testing.assert_allclose(values(same), 0.5, rtol=1e-6)


@pytest.mark.parametrize("steps", [None, 2])
def test_a_step_that_loss_scaling_skips_is_not_counted(steps):
    variable = keras.Variable([1.0])
    inner = kopt.SGD(1.0, gradient_accumulation_steps=steps, use_ema=True)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
    optimizer.build([variable])
    for gradient in (0.1, np.inf, 0.05):  # the scale is halved by the second
        optimizer.apply([tf.constant([gradient], "float32")], [variable])
    assert int(inner.iterations) == (1 if steps else 2)
    assert variable.numpy()[0] == pytest.approx(0.9 if steps else 0.8)
