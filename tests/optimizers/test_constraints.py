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
