"""Arguments of the three verbs and of `Fit`, refused before anything is trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import tfmot
from tests.peer.tfmot import tf_keras

L = keras.layers


def model():
    return keras.Sequential([keras.Input((4,)), L.Dense(3, name="dense")])


def train(older, callbacks):
    raise AssertionError("nothing is trained with wrong arguments")


X = np.ones((8, 4), "float32")


def test_fit_trains_on_a_data_set_with_an_optimizer_of_tf_keras():
    batches = tf.data.Dataset.from_tensor_slices((X, X[:, :3])).batch(2)
    optimizer = tf_keras().optimizers.SGD(0.1)
    fit = tfmot.Fit(batches, loss="mse", optimizer=optimizer, epochs=2)
    for _ in range(2):  # an optimizer serves more than one model
        twin = tfmot.to_tf_keras(model())
        fit(twin, [])
        assert float(twin.optimizer.learning_rate) == pytest.approx(0.1)
        assert fit.history["loss"][1] < fit.history["loss"][0]


def test_fit_sets_the_learning_rate_of_a_named_optimizer():
    twin = tfmot.to_tf_keras(model())
    tfmot.Fit(X, X[:, :3], "mse", "sgd", learning_rate=0.25)(twin, [])
    assert type(twin.optimizer).__name__ == "SGD"
    assert float(twin.optimizer.learning_rate) == 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(), "`loss` must be given"),
        (dict(loss=keras.losses.MeanSquaredError()), "object of Keras 3.*'mse'"),
        (dict(loss="mse", optimizer=keras.optimizers.Adam()), "Keras 3.*'adam'"),
        (dict(loss="mse", optimizer=kopt.Lion()), "object of Keras 3"),
        (dict(loss="mse", epochs=0), "`epochs` must be a whole number of at least 1"),
        (dict(loss="mse", batch_size=2.5), "`batch_size` must be a whole number"),
        (dict(loss="mse", learning_rate=-1.0), "`learning_rate` must be"),
        (dict(loss="mse", verbose=5), "`verbose` must be one of"),
    ],
)
def test_fit_refuses(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tfmot.Fit(X, X, **arguments)


def test_a_learning_rate_goes_with_a_name():
    with pytest.raises(ValueError, match="goes with the name of an optimizer"):
        tfmot.Fit(X, X, "mse", tf_keras().optimizers.SGD(), learning_rate=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: tfmot.prune_low_magnitude(m, train=3), "`train` must be"),
        (
            lambda m: tfmot.prune_low_magnitude(
                m, kopt.pruning.CosineDecay(0.0, 0.5, 0, 10), train=train
            ),
            "`pruning_schedule` must be a schedule of TF-MOT",
        ),
        (
            lambda m: tfmot.prune_low_magnitude(m, train=train, layers=["nope"]),
            r"`layers` must choose.*\['nope'\].*has: dense",
        ),
        (
            lambda m: tfmot.cluster_weights(m, 4, layers=lambda layer: False),
            "`layers` must choose.*none at all",
        ),
        (lambda m: tfmot.cluster_weights(m, 1), "`number_of_clusters` must be"),
        (lambda m: tfmot.cluster_weights(m, 4, "best"), "must be one of 'LINEAR'"),
        (lambda m: tfmot.cluster_weights(m, 4, train=X), "`train` must be"),
        (
            lambda m: tfmot.quantize_model(m, "no/such/folder/m.tflite", train=train),
            "`path` must be in a folder that exists",
        ),
        (
            lambda m: tfmot.quantize_model(m, "m.tflite", train=train, io_dtype="int4"),
            "`io_dtype` must be one of",
        ),
        (
            lambda m: tfmot.quantize_model(
                m, "m.tflite", train=train, samples=X[:, 1:]
            ),
            r"`samples` for input_layer.* must have the shape \(None, 4\)",
        ),
        (
            lambda m: tfmot.quantize_model(m, "m.tflite", train=train, samples=[X, X]),
            "`samples` must have an array for each input",
        ),
    ],
)
def test_the_verbs_refuse(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError), match=message):
        call(model())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["prune_low_magnitude", "cluster_weights"])
def test_the_verbs_take_models_of_keras_3(verb):
    arguments = dict(train=train) | (
        dict(number_of_clusters=4) if verb == "cluster_weights" else {}
    )
    with pytest.raises(TypeError, match="must be a Keras 3 model"):
        getattr(tfmot, verb)(tf_keras().Sequential(), **arguments)


def test_words_that_a_layer_looks_up_come_back():
    lookup = L.TextVectorization(output_mode="multi_hot", max_tokens=4)
    lookup.adapt(["sun", "sun moon", "moon rain"])
    net = keras.Sequential([keras.Input((1,), dtype="string"), lookup, L.Dense(6)])
    clustered = tfmot.cluster_weights(net, 3, layers=[net.layers[-1]])
    words = tf.constant([["sun"], ["rain"]])
    assert clustered.layers[0].get_vocabulary() == lookup.get_vocabulary()
    assert clustered(words).shape == (2, 6)
    assert len(np.unique(clustered.layers[-1].kernel)) <= 3
