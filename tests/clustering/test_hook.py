"""Whoever calls a layer with clustered weights, it computes with these."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kopt.clustering import _hook, cluster_weights, strip_clustering
from tests.clustering.nets import clustered_mlp, data, distinct, layers, mlp, values


def test_a_layer_called_alone_computes_with_its_clustered_weights():
    model, (x, _) = clustered_mlp(), data()
    first, _ = values(model)
    np.testing.assert_allclose(model.layers[0](x), np.tanh(x @ first), atol=1e-6)


def test_a_model_of_its_layers_computes_with_their_clustered_weights():
    model, (x, _) = clustered_mlp(), data()
    half = keras.Model(model.inputs[0], model.layers[0].output)
    first, _ = values(model)
    np.testing.assert_allclose(half(x), np.tanh(x @ first), atol=1e-6)


def test_a_weight_that_is_used_outside_of_its_layer_is_clustered_there():
    class Tied(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(9, 4)

        def call(self, tokens):
            return self.embed(tokens) @ ops.transpose(self.embed.embeddings)

    model, tokens = Tied(), np.arange(9)[None]
    model(tokens)
    cluster_weights(model, 3)
    (table,) = values(model)
    np.testing.assert_allclose(model(tokens)[0], table @ table.T, atol=1e-6)


def test_a_training_step_that_calls_parts_only_trains_the_centroids():
    class Parts(keras.Model):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = layers.Dense(4), layers.Dense(6)

        def call(self, x):
            return self.decode(self.encode(x))

        def train_step(self, batch):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.decode(self.encode(batch)) - batch) ** 2)
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"loss": loss}

    model, (x, _) = Parts(), data()
    model(x)
    cluster_weights(model, 4)
    before = [one.centroids.centroids.numpy() for one in model.kopt_clustering.weights]
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.fit(x, verbose=0)
    for one, first in zip(model.kopt_clustering.weights, before, strict=True):
        assert (one.centroids.centroids.numpy() != first).all()


def test_a_weight_is_clustered_once_a_call(monkeypatch):
    shared, inputs = layers.Dense(6), keras.Input((6,))
    model = keras.Model(inputs, shared(keras.Sequential([shared])(shared(inputs))))
    cluster_weights(model, 4)
    calls = []
    made = _hook.ClusteredScope.__init__

    def counted(scope, weights):
        calls.append(len(list(weights)))
        made(scope, weights)

    monkeypatch.setattr(_hook.ClusteredScope, "__init__", counted)
    model(data()[0])
    assert calls == [1]


def test_losses_that_layers_add_are_kept():
    class Penalized(layers.Dense):
        def call(self, x):
            self.add_loss(3.0 + 0 * ops.sum(self.kernel))
            return super().call(x)

    inner = keras.Sequential([Penalized(4), layers.Dense(3, activity_regularizer="l2")])
    model, (x, _) = keras.Sequential([keras.Input((6,)), inner]), data()
    model(x)
    before = [float(loss) for loss in model.losses]
    cluster_weights(model, 23)
    model(x)
    after = [float(loss) for loss in model.losses]
    assert 3 in after and 3 in before
    assert len(after) == len(before) == 2
    strip_clustering(model)
    model(x)
    assert [float(loss) for loss in model.losses] == after


def test_a_regularizer_sees_the_weights_that_are_trained():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, kernel_regularizer="l2")]
    )
    before = float(model.losses[0])
    cluster_weights(model, 2)
    assert float(model.losses[0]) == before


def test_statistics_and_seeds_move_as_without_clusters():
    def trained(clustered):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                layers.BatchNormalization(),
                layers.Dropout(0.5),
                layers.Dense(4),
            ]
        )
        if clustered:
            cluster_weights(model, 4)
        model(data()[0], training=True)
        return model.layers

    mine, other = trained(True), trained(False)
    assert (mine[0].moving_mean.numpy() != 0).all()
    np.testing.assert_array_equal(mine[0].moving_mean, other[0].moving_mean)
    for one in (mine, other):
        assert one[1].seed_generator.state.numpy()[1] == 1


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_a_cell_may_change_variables_inside_the_loop(jit_compile):
    class Counting(layers.SimpleRNNCell):
        def build(self, shape):
            super().build(shape)
            self.steps = self.add_weight(
                name="steps", initializer="zeros", trainable=False
            )

        def call(self, x, states, training=None):
            self.steps.assign_add(1.0)
            return super().call(x, states, training=training)

    cell = Counting(4)
    model = keras.Sequential([keras.Input((5, 3)), layers.RNN(cell), layers.Dense(2)])
    cluster_weights(model, 3)
    model.compile("sgd", "mse", jit_compile=jit_compile)
    model.fit(np.ones((4, 5, 3)), np.ones((4, 2)), verbose=0)
    # TensorFlow's loop asks the cell once more, for what its results look like.
    assert float(cell.steps) == 6


def test_what_a_layer_assigns_to_its_clustered_weight_is_what_it_then_reads():
    class Normalized(layers.Dense):
        def call(self, x):
            self.kernel.assign(self.kernel / ops.max(ops.abs(self.kernel)))
            return super().call(x)

    layer = Normalized(4, use_bias=False)
    model, (x, _) = keras.Sequential([keras.Input((6,)), layer]), data()
    cluster_weights(model, 3)
    output = model(x)
    np.testing.assert_allclose(output, x @ layer.kernel.numpy(), atol=1e-6)
    assert np.unique(layer.kernel).size == 3
    assert np.abs(layer.kernel).max() == 1


def test_a_clustered_model_inside_another_is_clustered_there():
    inner, (x, _) = clustered_mlp(), data()
    outer = keras.Sequential([keras.Input((6,)), inner])
    np.testing.assert_array_equal(outer(x), inner(x))
    cluster_weights(
        inner_and_more := keras.Sequential([outer, layers.Dense(4)]),
        3,
        layers=lambda layer: layer.name.startswith("dense_2"),
    )
    before = inner_and_more(x)
    strip_clustering(inner_and_more)
    np.testing.assert_array_equal(inner_and_more(x), before)
    assert "call" not in vars(inner)


def test_a_stateless_call_uses_the_values_that_it_is_given():
    model, (x, _) = clustered_mlp(), data()
    given = [variable.numpy() for variable in model.trainable_variables]
    given[0] = np.full_like(given[0], 0.3)
    rest = model.non_trainable_variables
    output, _ = model.stateless_call(given, rest, x)
    other = mlp()
    other.set_weights([one for one in given if one.shape not in ((5,),)])
    first, second = model.kopt_clustering.weights
    centroids = first.centroids.centroids.numpy()
    nearest = centroids[np.abs(centroids - 0.3).argmin()]
    hidden = np.tanh(x @ np.full((6, 16), nearest))
    np.testing.assert_allclose(output, hidden @ second.values().numpy(), atol=1e-5)
    assert distinct(model) == [5, 5]


def test_mixed_precision_rounds_the_centroids_and_not_what_chooses_them():
    keras.config.set_dtype_policy("mixed_float16")
    seen = []

    class Spy(layers.Dense):
        def call(self, x):
            seen.append(self.kernel.value)
            return super().call(x)

    layer = Spy(4, use_bias=False)
    model = keras.Sequential([keras.Input((1,)), layer])
    # In half precision the second would lie on the border between 0 and 1.
    layer.kernel.assign([[0.0, 0.50001, 0.4, 1.0]])
    cluster_weights(model, 2, "LINEAR")(np.ones((1, 1)))
    assert seen[-1].dtype == tf.float16
    assert seen[-1].numpy().tolist() == [[0, 1, 0, 1]]
