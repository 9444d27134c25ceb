"""Masks hold and steps count in every way of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import pruning
from kopt.pruning import prune_low_magnitude
from tests.pruning.nets import (
    data,
    growing,
    layers,
    mlp,
    pruned_mlp,
    sparsities,
    steps,
    train,
)
from tests.sampling import sampled

optimizers = keras.optimizers

OPTIMIZERS = {
    "Keras Adam": lambda: optimizers.Adam(0.01),
    "Keras SGD with momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "Keras AdamW": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "moving averages": lambda: optimizers.Adam(0.01, use_ema=True),
    "moving averages written back": lambda: optimizers.Adam(
        0.01, use_ema=True, ema_overwrite_frequency=5
    ),
    "loss scaling": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1)),
    "kopt Adam": lambda: kopt.Adam(0.01),
    "kopt AdamW with moving averages": lambda: kopt.AdamW(0.01, use_ema=True),
    "kopt Lion": lambda: kopt.Lion(0.01),
    "Mechanic": lambda: kopt.Mechanic(kopt.SGD(0.01)),
}
# What trains at one set of weights and is evaluated at another.
AVERAGES = {
    "SWA": lambda: kopt.WeightAverage(kopt.Adam(0.01)),
    "EMA": lambda: kopt.WeightAverage(optimizers.Adam(0.01), momentum=0.9),
    "Lookahead": lambda: kopt.Lookahead(kopt.Adam(0.01)),
    "ScheduleFree": lambda: kopt.ScheduleFreeAdamW(0.01),
    "MomentumSAM": lambda: kopt.MomentumSAM(kopt.SGD(0.01, momentum=0.9)),
}
COMPILED = [
    dict(jit_compile=True),
    dict(run_eagerly=True),
    dict(jit_compile=False, steps_per_execution=4),
]


@pytest.mark.parametrize(
    "name",
    sampled(
        OPTIMIZERS, ["Keras AdamW", "moving averages", "loss scaling", "kopt Adam"]
    ),
)
def test_zeros_hold_and_steps_count_with_every_optimizer(name):
    model = pruned_mlp()
    model.compile(OPTIMIZERS[name](), "mse")
    train(model)
    assert sparsities(model) == [0.5, 0.5]
    assert steps(model) == [19, 19]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize(
    "name", sampled(AVERAGES, ["EMA", "Lookahead"], pytest.mark.slow)
)
def test_zeros_hold_in_the_weights_that_are_evaluated(name):
    class Watch(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            seen.append(sparsities(self.model))

    seen = []
    model = pruned_mlp()
    model.compile(AVERAGES[name](), "mse")
    x, y = data()
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=3,
        validation_data=(x, y),
        callbacks=[kopt.callbacks.EvalWeights(), Watch()],
        verbose=0,
    )
    # Step 7 has its masks when the first epoch of six steps ends.
    first = float(growing()(7)[1])
    np.testing.assert_allclose(seen, [[first] * 2, [0.5] * 2, [0.5] * 2], atol=0.01)
    assert sparsities(model) == [0.5, 0.5]
    assert steps(model) == [19, 19]


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["local", "global"])
def test_all_ways_of_compiling_give_the_same_weights(scope):
    def trained(**arguments):
        keras.utils.set_random_seed(1)
        model = pruned_mlp(scope=scope)
        model.compile(optimizers.Adam(0.01), "mse", **arguments)
        return train(model, epochs=2)

    expected = trained(jit_compile=False)
    for arguments in COMPILED:
        model = trained(**arguments)
        assert steps(model) == steps(expected)
        pairs = zip(model.get_weights(), expected.get_weights(), strict=True)
        for mine, other in pairs:
            np.testing.assert_array_equal(mine == 0, other == 0)
            np.testing.assert_allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("library", [optimizers, kopt], ids=["Keras", "kopt"])
def test_steps_are_updates_when_gradients_are_accumulated(library):
    model = prune_low_magnitude(mlp(), pruning.ConstantSparsity(0.5, 5))
    model.compile(library.SGD(0.1, gradient_accumulation_steps=3), "mse")
    with pytest.warns(UserWarning, match="has seen 2 steps"):
        train(model, epochs=1)
    assert sparsities(model) == [0.0, 0.0]
    train(model, epochs=1)
    assert steps(model) == [5, 5]
    assert sparsities(model) == [0.5, 0.5]


def test_accumulated_gradients_prune_as_one_large_batch_does():
    def trained(batch_size, accumulated):
        keras.utils.set_random_seed(1)
        model = pruned_mlp()
        optimizer = optimizers.SGD(1.0, gradient_accumulation_steps=accumulated)
        model.compile(optimizer, "mse")
        return train(model, epochs=6, batch_size=batch_size)

    together, apart = trained(24, None), trained(8, 3)
    for mine, other in zip(apart.get_weights(), together.get_weights(), strict=True):
        np.testing.assert_array_equal(mine == 0, other == 0)
        np.testing.assert_allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("library", [optimizers, kopt], ids=["Keras", "kopt"])
def test_a_loop_of_ones_own_needs_nothing(library, compiled):
    model, optimizer = pruned_mlp(), library.Adam(0.01)
    optimizer.build(model.trainable_variables)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    step = tf.function(step) if compiled else step
    x, y = data()
    for _ in range(12):
        step(x, y)
    assert sparsities(model) == [0.5, 0.5]
    assert steps(model) == [13, 13]


def test_each_optimizer_of_a_loop_counts_its_own_variables():
    model = pruned_mlp()
    first, second = model.layers
    often, seldom = optimizers.SGD(0.1), optimizers.SGD(0.1)
    for number in range(6):
        for layer, optimizer in ((first, often), (second, seldom)):
            if layer is first or number % 3 == 0:
                gradients = [tf.ones_like(v) for v in layer.trainable_variables]
                optimizer.apply(gradients, layer.trainable_variables)
    assert steps(model) == [7, 3]


def test_a_variable_without_a_gradient_takes_no_step():
    model, optimizer = pruned_mlp(), optimizers.SGD(0.1)
    variables = model.trainable_variables
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([tf.ones_like(variables[0]), None, None, None], variables)
    assert steps(model) == [2, 1]


@pytest.mark.parametrize(
    ("wrapper", "scope", "expected", "compiled"),
    [
        (None, "local", [3, 2], False),
        (None, "local", [3, 2], True),
        pytest.param(None, "global", [4], True, marks=pytest.mark.slow),
        (kopt.Mechanic, "local", [3, 2], False),
        pytest.param(kopt.Lookahead, "global", [4], True, marks=pytest.mark.slow),
    ],
)
def test_a_step_is_an_update_of_a_variable_that_waited_for_it(
    wrapper, scope, expected, compiled
):
    model = pruned_mlp(scope=scope)
    optimizer = kopt.SGD(0.1, gradient_accumulation_steps=2)
    optimizer = wrapper(optimizer) if wrapper else optimizer
    kernels = [layer.kernel for layer in model.layers]
    optimizer.build(kernels)

    def step(places):
        variables = [kernels[place] for place in places]
        optimizer.apply([tf.ones_like(v) for v in variables], variables)

    # The first kernel is updated by the second and the fourth, the second by the third.
    for places in ((0,), (0, 1), (0, 1), (0,)):
        (tf.function(step) if compiled else step)(places)
    assert steps(model) == expected


def test_an_optimizer_that_wraps_another_counts_once():
    class Twice(optimizers.SGD):
        """Constrains the weights again after its inner optimizer."""

        def apply(self, grads, trainable_variables=None):
            with keras.name_scope(self.name, caller=self):
                self.inner.apply(grads, trainable_variables)
                for variable in trainable_variables:
                    if variable.constraint is not None:
                        variable.assign(variable.constraint(variable))

    model, optimizer = pruned_mlp(), Twice()
    optimizer.inner = optimizers.SGD(0.1)
    variables = model.trainable_variables
    optimizer.apply([tf.ones_like(v) for v in variables], variables)
    assert steps(model) == [2, 2]


def test_a_constraint_called_outside_an_update_masks_and_does_not_count():
    model = pruned_mlp()
    kernel = model.layers[0].kernel
    masked = kernel.constraint(tf.ones_like(kernel))
    np.testing.assert_array_equal(masked == 0, kernel.numpy() == 0)
    assert steps(model) == [1, 1]


def test_averages_are_masked_while_training_goes_on():
    class Watch(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            seen.append(sparsities(self.model))

    seen = []
    model = pruned_mlp()
    model.compile(optimizers.Adam(0.01, use_ema=True), "mse")
    x, y = data()
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    arguments = dict(batch_size=8, epochs=2, validation_data=(x, y), verbose=0)
    model.fit(x, y, callbacks=[swap, Watch()], **arguments)
    assert seen[-1] == [0.5, 0.5]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_zeros_hold_in_low_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = pruned_mlp()
    model.compile(optimizers.SGD(0.01), "mse")
    assert sparsities(train(model)) == [0.5, 0.5]


def test_sparse_gradients_of_an_embedding_keep_the_zeros():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Embedding(32, 8), layers.Flatten(), layers.Dense(1)]
    )
    prune_low_magnitude(model, growing())
    model.compile(optimizers.Adam(0.01), "mse")
    x = np.random.default_rng(0).integers(0, 8, size=(48, 4))
    model.fit(x, np.ones(48), batch_size=8, epochs=3, verbose=0)
    assert sparsities(model) == [0.5, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "scope", "arguments"),
    [
        (optimizers, "local", {}),
        (optimizers, "global", dict(use_ema=True)),
        (kopt, "global", dict(use_ema=True)),
        # Keras cannot accumulate gradients on several replicas.
        (kopt, "local", dict(gradient_accumulation_steps=3)),
        (None, "local", {}),
    ],
    ids=["Keras", "Keras, averages", "kopt, averages", "kopt, accumulation", "SWA"],
)
def test_two_replicas_prune_as_one_does(two_replicas, library, scope, arguments):
    def trained():
        keras.utils.set_random_seed(1)
        model = mlp()
        average = kopt.WeightAverage(kopt.SGD(0.1))
        optimizer = library.SGD(0.1, **arguments) if library else average
        model.compile(optimizer, "mse")
        return train(prune_low_magnitude(model, growing(), scope=scope))

    alone = trained()
    with two_replicas.scope():
        together = trained()
    assert steps(together) == steps(alone)
    for mine, other in zip(together.weights, alone.weights, strict=True):
        first, second = (copy.numpy() for copy in mine.value.values)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first == 0, other.numpy() == 0)
        np.testing.assert_allclose(first, other.numpy(), atol=1e-6)
