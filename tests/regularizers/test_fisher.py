"""The Fisher information of linear models, for which it has a closed form."""

import keras
import numpy as np
import pytest
import scipy
import tensorflow as tf

from kopt.regularizers import EWC, apply, estimate_fisher

X = np.random.default_rng(1).normal(size=(40, 3)).astype("float32")


def linear(units, activation=None):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units, activation=activation)]
    )
    kernel = np.random.default_rng(2).normal(size=(3, units))
    model.set_weights([kernel, np.linspace(-1, 1, units)])
    return model


def softmax_information(model):
    """The mean over x and over y drawn from p of the squared slope of log p[y]."""
    kernel, bias = (weight.astype("float64") for weight in model.get_weights())
    p = scipy.special.softmax(X @ kernel + bias, axis=-1)
    # The slope by logit j is (y == j) - p[j], whose mean square is p[j] (1 - p[j]).
    each = p * (1 - p)
    return [np.einsum("ni,nj->ij", X**2.0, each) / len(X), each.mean(0)]


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_all_labels_give_the_closed_form_of_softmax_regression(outputs):
    model = linear(4, "softmax" if outputs == "probabilities" else None)
    found = estimate_fisher(model, X, outputs=outputs, labels="all")
    for one, expected in zip(found, softmax_information(model), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5)


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_one_output_is_a_class_and_its_opposite(outputs):
    model = linear(1, "sigmoid" if outputs == "probabilities" else None)
    kernel, bias = model.get_weights()
    p = scipy.special.expit(X.astype("float64") @ kernel + bias)
    found = estimate_fisher(model, X, outputs=outputs, labels="all")
    np.testing.assert_allclose(
        found[0], (X**2.0 * p * (1 - p)).mean(0)[:, None], rtol=1e-5
    )


def test_drawn_labels_come_close_to_all_labels():
    model = linear(4)
    many = np.repeat(X, 25, axis=0)
    found = estimate_fisher(model, many, outputs="logits", seed=3)
    # 1000 draws; the square of a slope deviates by about its mean.
    for one, expected in zip(found, softmax_information(model), strict=True):
        np.testing.assert_allclose(one, expected, rtol=5 * 1.5 / 1000**0.5)


def test_a_seed_draws_the_same_labels_and_another_one_others():
    model = linear(4)
    one, same, other = (
        estimate_fisher(model, X, outputs="logits", seed=seed)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("one_hot", [False, True])
def test_given_labels_are_those_of_the_data(one_hot):
    model = linear(4)
    kernel, bias = model.get_weights()
    y = np.arange(40) % 4
    p = scipy.special.softmax(X.astype("float64") @ kernel + bias, axis=-1)
    slopes = np.eye(4)[y] - p
    labels = np.eye(4)[y] if one_hot else y
    found = estimate_fisher(model, (X, labels), outputs="logits", labels="given")
    expected = np.einsum("ni,nj->ij", X**2.0, slopes**2) / len(X)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_means_of_normal_distributions():
    model = linear(2)
    found = estimate_fisher(model, X, outputs="means", labels="all")
    expected = np.repeat((X**2.0).mean(0)[:, None], 2, axis=1)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    y = np.random.default_rng(0).normal(size=(40, 2))
    given = estimate_fisher(model, (X, y), outputs="means", labels="given")
    apart = y - model.predict(X, verbose=0).astype("float64")
    expected = np.einsum("ni,nj->ij", X**2.0, apart**2) / len(X)
    np.testing.assert_allclose(given[0], expected, rtol=1e-4)


def test_batches_are_taken_apart_and_samples_end_them():
    model = linear(4)
    data = tf.data.Dataset.from_tensor_slices(X).batch(16)
    of_all = estimate_fisher(model, data, outputs="logits", labels="all")
    np.testing.assert_allclose(of_all[0], softmax_information(model)[0], rtol=1e-5)
    of_few = estimate_fisher(model, data, outputs="logits", labels="all", samples=10)
    alone = estimate_fisher(model, X[:10], outputs="logits", labels="all")
    np.testing.assert_array_equal(of_few[0], alone[0])


def test_embeddings_and_convolutions_and_statistics_have_their_places():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(5, 4),
            layers.Conv1D(3, 2),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    found = estimate_fisher(model, np.ones((4, 6), "int32"), outputs="logits", seed=0)
    assert [one.shape for one in found] == [w.shape for w in model.weights]
    by_path = {w.path: one for w, one in zip(model.weights, found, strict=True)}
    assert all(not one.any() for path, one in by_path.items() if "moving" in path)
    rows = next(one for path, one in by_path.items() if "embeddings" in path)
    assert rows[1].any() and not rows[[0, 2, 3, 4]].any()


@pytest.mark.slow
def test_a_second_task_is_learned_without_forgetting_the_first():
    # The first task depends on the first input, the second one on the others.
    random = np.random.default_rng(0)
    first = random.normal(size=(256, 4)).astype("float32") * [1, 0, 0, 0]
    second = random.normal(size=(256, 4)).astype("float32")
    y_first, y_second = first[:, :1] > 0, second[:, 1:2] > 0

    def trained(keep):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=False)
        model.fit(first, y_first, epochs=15, verbose=0)
        before = model.evaluate(first, y_first, verbose=0)
        unknown = model.evaluate(second, y_second, verbose=0)
        if keep:
            fisher = estimate_fisher(model, first, outputs="logits", labels="all")
            apply(model, {".*": EWC(100.0)}, fisher=fisher)
            model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=False)
        model.fit(second, y_second, epochs=15, verbose=0)
        apply(model, {".*": None})
        model.compile("sgd", loss, jit_compile=False)
        after = model.evaluate(first, y_first, verbose=0)
        return before, after, model.evaluate(second, y_second, verbose=0) / unknown

    before, kept, learned = trained(True)
    _, forgotten, _ = trained(False)
    assert kept < 1.5 * before < forgotten
    assert learned < 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": "odds"}, "`outputs` must be one of"),
        ({"labels": "true"}, "`labels` must be one of"),
        ({"labels": "given"}, "pairs of inputs and labels"),
        ({"samples": 0}, "`samples` must be"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        estimate_fisher(linear(2), X, **arguments)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="`data` must have samples"):
        estimate_fisher(linear(2), X[:0])
