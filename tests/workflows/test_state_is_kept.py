"""Passes that kopt makes for itself leave a model's state where the user left it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import callbacks, evaluation, pruning, quantization
from kopt._keras.model_state import make_unseeded_generator, model_state
from tests.sampling import sampled

BATCH = 4
X = np.random.default_rng(0).normal(size=(16, 3, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")
BATCHES = tf.data.Dataset.from_tensor_slices(X).batch(BATCH)


@keras.saving.register_keras_serializable("tests")
class Count(keras.layers.Layer):
    """Counts its calls past Keras, at inference too."""

    def build(self, shape):
        vars(self)["count"] = tf.Variable(0.0, trainable=False)
        vars(self)["other"] = keras.Variable(0.0, trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        self.other.assign_add(1.0)
        return x


def stateful(recurrent=None, **options):
    keras.utils.set_random_seed(0)
    make_unseeded_generator()
    recurrent = recurrent or keras.layers.SimpleRNN(3, stateful=True, **options)
    layers = [Count(), recurrent, keras.layers.Dense(2, name="head")]
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, 3, 4)), *layers])
    model.compile(kopt.SGD(0.1), "mse")
    model.train_on_batch(X[:BATCH], Y[:BATCH])
    return model


def values(variables):
    return [np.array(variable) for variable in variables]


def quantized():
    model = stateful()
    quantization.quantize_model(model)
    return quantization.calibrate(model, BATCHES)


def fit(model, *more):
    model.fit(
        X, Y, batch_size=BATCH, verbose=0, shuffle=False, epochs=5, callbacks=more
    )


def lr_finder(model):
    fit(model, callbacks.LRFinder(steps=10, end=0.1))


PASSES = {
    "LRFinder": (stateful, lr_finder),
    "calibrate": (quantized, lambda m: quantization.calibrate(m, BATCHES)),
    "quantization_report": (
        quantized,
        lambda m: quantization.quantization_report(m, BATCHES),
    ),
    "sensitivity": (quantized, lambda m: quantization.sensitivity(m, BATCHES)),
    "correct_bias": (stateful, lambda m: quantization.correct_bias(m, BATCHES)),
    "measure": (
        stateful,
        lambda m: evaluation.measure(m, (X, Y), batch_size=BATCH, runs=1),
    ),
    "a gradient's scores": (
        stateful,
        lambda m: pruning.prune_low_magnitude(
            m,
            pruning.OneShot(0.5),
            criterion=pruning.Gradient(X[:BATCH], Y[:BATCH], "mse"),
        ),
    ),
}


@pytest.mark.parametrize(
    "name", sampled(PASSES, ["LRFinder", "quantization_report"], pytest.mark.slow)
)
def test_hidden_states_are_where_they_were(name):
    make, run = PASSES[name]
    model = make()
    weights = {id(weight) for weight in model.weights}
    state = [one for one in model_state(model) if id(one) not in weights]
    assert len(state) >= 3
    before = values(state)
    run(model)
    for variable, old, new in zip(state, before, values(state), strict=True):
        np.testing.assert_array_equal(old, new, err_msg=variable.name)


def test_new_batch_statistics_leave_other_state_alone():
    normal = keras.layers.BatchNormalization()
    rnn = keras.layers.GRU(3, stateful=True, return_sequences=True)
    inside = keras.Sequential([rnn, normal, keras.layers.GRU(2, stateful=True)])
    model = stateful(inside)
    moving = {id(normal.moving_mean), id(normal.moving_variance)}
    state = [one for one in model_state(model) if id(one) not in moving]
    before = values(state)
    statistics = callbacks.EvalWeights(statistics=BATCHES, batches=2)
    model.evaluate(X[:BATCH], Y[:BATCH], batch_size=BATCH, verbose=0)
    held = [np.array(one) for one in rnn.states]
    statistics.set_model(model)
    statistics.on_test_begin()
    assert np.any(normal.moving_mean.numpy() != 0)
    for one, old in zip(rnn.states, held, strict=True):
        np.testing.assert_array_equal(one, old)
    statistics.on_test_end()
    assert len(before) == len(state)


def test_scoring_while_training_leaves_hidden_states_alone():
    def trained(criterion):
        model = stateful()
        schedule = pruning.ConstantSparsity(0.5, begin_step=1, frequency=1)
        # At a sparsity of zero nothing but the scoring could make a difference.
        if criterion is not None:
            schedule = pruning.PolynomialDecay(0.0, 0.0, 0, 2, frequency=1)
            pruning.prune_low_magnitude(model, schedule, criterion=criterion)
        for start in range(0, len(X), BATCH):
            part = slice(start, start + BATCH)
            model.train_on_batch(X[part], Y[part])
        return values(model.weights + model.layers[1].states)

    scored = trained(pruning.Gradient(X[:BATCH], Y[:BATCH], "mse"))
    for one, other in zip(scored, trained(None), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
