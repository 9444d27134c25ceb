"""Penalties on what layers put out, inside of models."""

import keras
import numpy as np
import pytest

from kopt.regularizers import ConfidencePenalty, DeCov, KLSparsity

X = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")


def trained(penalty, activation="sigmoid", steps=150):
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(4, activation=activation, activity_regularizer=penalty)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile(keras.optimizers.Adam(0.05), lambda y, p: 0 * p, jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(X, np.zeros((64, 4)))
    return model.predict(X, verbose=0)


@pytest.mark.parametrize(
    "penalty", [DeCov(0.5), KLSparsity(0.5), ConfidencePenalty(0.5)]
)
@pytest.mark.parametrize("batch_size", [8, 64])
def test_the_loss_is_the_formula_whatever_the_size_of_the_batch(penalty, batch_size):
    layer = keras.layers.Dense(4, "sigmoid", activity_regularizer=penalty)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile(loss=lambda y, p: 0 * p, jit_compile=False)
    batch = X[:batch_size]
    expected = float(penalty.penalty(layer(batch)))
    loss = model.evaluate(batch, np.zeros((batch_size, 4)), batch_size, verbose=0)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_decov_decorrelates_units():
    covariance = np.cov(trained(DeCov(10.0)), rowvar=False)
    correlation = np.corrcoef(trained(DeCov(0.0)), rowvar=False)
    pairs = ~np.eye(4, dtype=bool)
    assert abs(covariance[pairs]).max() < 0.01 < abs(correlation[pairs]).max()


def test_kl_sparsity_reaches_its_mean():
    np.testing.assert_allclose(
        trained(KLSparsity(1.0, rho=0.2)).mean(0), 0.2, atol=0.02
    )


def test_the_confidence_penalty_evens_predictions_out():
    np.testing.assert_allclose(
        trained(ConfidencePenalty(1.0), "softmax"), 0.25, atol=0.02
    )


@pytest.mark.parametrize("penalty", [DeCov(), KLSparsity(), ConfidencePenalty()])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_and_file(penalty, policy, tmp_path):
    layer = keras.layers.Dense(4, "sigmoid", activity_regularizer=penalty, dtype=policy)
    head = keras.layers.Dense(1, dtype="float32")
    model = keras.Sequential([keras.Input((5,)), layer, head])
    model.compile("adam", "mse", jit_compile=False)
    loss = model.fit(X, X[:, :1], verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.layers[0].activity_regularizer) is type(penalty)


@pytest.mark.parametrize("penalty", [DeCov(), KLSparsity(), ConfidencePenalty()])
def test_weights_and_single_vectors_are_refused(penalty):
    layer = keras.layers.Dense(2, kernel_regularizer=penalty)
    layer.build((None, 3))
    with pytest.raises(ValueError, match="activity_regularizer"):
        _ = layer.losses
    with pytest.raises(ValueError, match=r"activations of shape \(batch"):
        penalty(np.ones(3, "float32"))


@pytest.mark.parametrize("rho", [0.0, 1.0, -0.1])
def test_a_mean_outside_of_0_to_1_is_refused(rho):
    with pytest.raises(ValueError, match="`rho` must be a finite number"):
        KLSparsity(rho=rho)
