import random

import keras
import numpy as np

from kopt.callbacks._snapshot import Snapshot, training_state


def test_it_goes_back_to_the_same_bits_as_often_as_asked():
    values = [np.float32(0.1), np.array([1, 2]), np.array([True])]
    variables = [keras.Variable(value, dtype=value.dtype) for value in values]
    variables.append(keras.Variable([1.0, 3.0], dtype="bfloat16"))
    before = [variable.numpy() for variable in variables]
    snapshot = Snapshot(variables)
    for _ in range(2):
        for variable in variables:
            variable.assign(keras.ops.zeros_like(variable))
        snapshot.restore()
        for variable, value in zip(variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_it_goes_back_to_the_same_random_numbers():
    snapshot = Snapshot([])
    drawn = random.random(), np.random.random()
    snapshot.restore()
    assert (random.random(), np.random.random()) == drawn


def test_the_state_of_training_has_everything_but_metrics():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
        ]
    )
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    state = {id(variable) for variable in training_state(model)}
    assert state >= {id(variable) for variable in model.weights}
    assert state >= {id(variable) for variable in model.optimizer.variables}
    assert id(model.layers[-1].seed_generator.state) in state
    assert not state & {id(variable) for variable in model.metrics_variables}


def test_draws_without_a_seed_are_repeated():
    # Keras's global seed generator, which is found by tracing a draw.
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    keras.random.uniform((3,))
    snapshot = Snapshot(training_state(model))
    drawn = keras.random.uniform((3,)).numpy()
    assert (keras.random.uniform((3,)).numpy() != drawn).all()
    snapshot.restore()
    np.testing.assert_array_equal(keras.random.uniform((3,)), drawn)


def test_looking_for_the_seed_generator_draws_nothing():
    def next_draw(look):
        keras.utils.set_random_seed(5)
        keras.random.uniform(())
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        if look:
            training_state(model)
        return float(keras.random.uniform(()))

    assert next_draw(look=True) == next_draw(look=False)
