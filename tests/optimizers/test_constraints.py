import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt


@pytest.mark.parametrize("library", [keras.optimizers, kopt], ids=["keras", "kopt"])
def test_a_constraint_sees_all_variables_moved(library):
    seen = []

    class Looking(keras.constraints.Constraint):
        def __call__(self, weights):
            seen.append([float(variable.numpy().item()) for variable in variables])
            return weights

    variables = [keras.Variable([1.0]) for _ in range(2)]
    variables[0].constraint = Looking()
    library.SGD(0.5).apply([tf.ones(1), tf.ones(1)], variables)
    assert seen == [[0.5, 0.5]]


def test_the_average_of_a_finished_model_keeps_the_constraint():
    weight = keras.Variable([1.0])
    optimizer = kopt.SGD(0.1, use_ema=True)
    optimizer.apply([tf.ones(1)], [weight])
    weight.constraint = keras.constraints.get("non_neg")
    optimizer.apply([tf.constant([100.0])], [weight])
    optimizer.finalize_variable_values([weight])
    assert np.all(weight.numpy() >= 0)


@pytest.mark.parametrize("accumulation", [None, 2])
def test_masks_are_renewed_on_every_replica(accumulation, two_replicas):
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
        schedule = kopt.pruning.ConstantSparsity(0.75, begin_step=2, frequency=1)
        kopt.pruning.prune_low_magnitude(model, schedule)
        optimizer = kopt.Adam(gradient_accumulation_steps=accumulation)
        model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    model.fit(x, np.ones((32, 16), "float32"), batch_size=4, verbose=0)
    for copy in model.layers[0].kernel.value.values:
        assert np.mean(copy.numpy() == 0) == 0.75
