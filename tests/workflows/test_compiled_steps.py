"""A model that was compiled and used before a part of it changed sees the change."""

import keras
import numpy as np
import pytest

import kopt
from kopt import clustering, pruning, quantization, regularizers
from tests.sampling import sampled

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 3)).astype("float32")


def mlp():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    return used(model)


def used(model):
    """A model that has compiled all of its three steps."""
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(X, Y)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    return model


class Listing(keras.Model):
    """Holds models in a list in a dict."""

    def __init__(self, *models):
        super().__init__()
        self.models = {"all": list(models)}

    def call(self, x):
        return sum(model(x) for model in self.models["all"])


class Attribute(keras.layers.Layer):
    """Holds a model as a layer of the user's own does."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x):
        return self.model(x)


def functional(inner):
    x = keras.Input((4,))
    return keras.Model(x, inner(x))


AROUND = {
    "sequential": lambda inner: keras.Sequential([keras.Input((4,)), inner]),
    "functional": functional,
    "in a list": lambda inner: Listing(inner),
    "in a layer": lambda inner: keras.Sequential([keras.Input((4,)), Attribute(inner)]),
    "two levels up": lambda inner: functional(functional(inner)),
    "sharing a layer": lambda inner: keras.Sequential(
        [keras.Input((4,)), inner.layers[0]]
    ),
}


def prune(model):
    return pruning.prune_low_magnitude(model, pruning.OneShot(0.5))


def zeros(model):
    return np.mean(model.get_layer("dense").kernel.numpy() == 0)


@pytest.mark.parametrize(
    "around", sampled(AROUND, ["functional", "sharing a layer"], pytest.mark.slow)
)
def test_training_a_model_keeps_the_zeros_of_a_part_that_was_pruned_later(around):
    inner = mlp()
    outer = used(AROUND[around](inner))
    prune(inner)
    outer.train_on_batch(X, Y)
    assert zeros(inner) == 0.5


@pytest.mark.parametrize(
    "around", sampled(AROUND, ["functional", "sharing a layer"], pytest.mark.slow)
)
def test_training_a_part_keeps_the_zeros_that_the_whole_was_given_later(around):
    inner = mlp()
    outer = used(AROUND[around](inner))
    prune(outer)
    inner.train_on_batch(X, Y)
    assert zeros(inner) == 0.5


@pytest.mark.parametrize(
    "around", sampled(AROUND, ["functional", "sharing a layer"], pytest.mark.slow)
)
def test_zeros_fill_again_where_a_part_was_stripped(around):
    inner = prune(mlp())
    outer = used(AROUND[around](inner))
    pruning.strip_pruning(inner)
    outer.train_on_batch(X, Y)
    assert zeros(inner) == 0


def cluster(model):
    return clustering.cluster_weights(model, 2)


def quantize(model):
    return quantization.quantize_model(model, calibration_data=X)


CHANGES = {
    "cluster_weights": (lambda model: model, cluster),
    "strip_clustering": (cluster, clustering.strip_clustering),
    "quantize_model": (lambda model: model, quantize),
    "strip_quantization": (quantize, quantization.strip_quantization),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "of_the_whole", sampled([True, False], [True], pytest.mark.slow)
)
def test_predictions_are_those_of_the_changed_layers(change, of_the_whole):
    first, then = CHANGES[change]
    inner = mlp()
    outer = functional(inner)
    changed, other = (outer, inner) if of_the_whole else (inner, outer)
    first(changed)
    used(other)
    then(changed)
    expected = keras.ops.convert_to_numpy(other(X, training=False))
    np.testing.assert_allclose(other.predict(X, verbose=0), expected, atol=1e-6)


def test_a_penalty_on_a_part_is_in_the_loss_of_the_whole():
    inner = mlp()
    outer = used(functional(inner))
    before = outer.evaluate(X, Y, verbose=0)
    regularizers.apply(inner, {"dense": regularizers.L2(1.0)})
    penalty = float(np.sum(inner.get_layer("dense").kernel.numpy() ** 2))
    assert outer.evaluate(X, Y, verbose=0) == pytest.approx(before + penalty, 1e-5)


def test_a_model_becomes_sharpness_aware_and_plain_again_between_two_batches():
    def trained(rho):
        keras.utils.set_random_seed(0)
        model = mlp()
        if rho is not None:
            kopt.sharpness_aware(model, rho=rho)
        model.train_on_batch(X, Y)
        kopt.strip_sharpness_aware(model)
        model.train_on_batch(X, Y)
        return model.get_layer("dense").kernel.numpy()

    assert np.abs(trained(0.5) - trained(None)).max() > 1e-4
    np.testing.assert_array_equal(trained(0.0), trained(None))


def test_a_student_learns_from_the_teacher_as_it_is_now():
    teacher, student = mlp(), mlp()
    quantization.learn_from(student, teacher, weight=1.0, loss="mse")
    used(student)
    cluster(teacher)
    distance = np.mean((teacher(X).numpy() - student(X).numpy()) ** 2)
    assert student.train_on_batch(X, Y) == pytest.approx(distance, 1e-5)


def test_a_student_that_was_compiled_before_begins_to_learn():
    teacher, student = mlp(), mlp()
    quantization.learn_from(student, teacher, weight=1.0, loss="mse")
    distance = np.mean((teacher(X).numpy() - student(X).numpy()) ** 2)
    assert student.train_on_batch(X, Y) == pytest.approx(distance, 1e-5)


def test_models_that_share_nothing_keep_their_steps():
    one, other = mlp(), mlp()
    steps = other.train_function, other.test_function, other.predict_function
    prune(one)
    kept = other.train_function, other.test_function, other.predict_function
    assert all(a is b for a, b in zip(steps, kept, strict=True))


def test_a_part_may_change_in_the_middle_of_training_the_whole():
    inner = mlp()
    outer = functional(inner)
    outer.compile("sgd", "mse")
    change = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: prune(inner) if epoch == 1 else None
    )
    outer.fit(X, Y, epochs=3, verbose=0, callbacks=[change])
    assert zeros(inner) == 0.5
