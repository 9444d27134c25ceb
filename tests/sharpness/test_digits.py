"""On real images: what the second pass buys, and what it costs.

The sharpness of a minimum is how much the training loss rises after a step of length
rho along its gradient, as in the first section of Foret et al., arXiv:2010.01412.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt

RHO, EPOCHS = 0.2, 20

pytestmark = [pytest.mark.real, pytest.mark.thorough]


@pytest.fixture(scope="module")
def digits():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x / 16).astype("float32")[order], y[order]
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])


def trained(train, seed, **settings):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    if settings:
        kopt.sharpness_aware(model, **settings)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = kopt.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    model.fit(*train, batch_size=50, epochs=EPOCHS, verbose=0)
    return model


def losses(model, x, y):
    """The training loss, and that after a step of length rho up its gradient."""
    weights = model.trainable_variables

    def loss():
        logits = model(x)
        return tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        )

    with tf.GradientTape() as tape:
        here = loss()
    gradients = tape.gradient(here, [weight.value for weight in weights])
    length = tf.linalg.global_norm(gradients)
    before = model.get_weights()
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign_add(RHO * gradient / length)
    there = loss()
    model.set_weights(before)
    return float(here), float(there)


VARIANTS = [
    {"variant": "sam", "rho": RHO},
    {"variant": "asam", "rho": 1.0},
    {"variant": "gsam", "rho": RHO},
    {"variant": "looksam", "rho": RHO, "period": 5, "alpha": 0.3},
]


def measured(digits, **settings):
    """The loss, the loss after the step, and the test accuracy: means of three."""
    train, test = digits
    models = [trained(train, seed, **settings) for seed in range(3)]
    accuracies = [model.evaluate(*test, verbose=0)[1] for model in models]
    return (*np.mean([losses(m, *train) for m in models], axis=0), np.mean(accuracies))


def test_minima_are_flatter_and_generalize_as_well(digits):
    here, there, accuracy = measured(digits)
    for settings in VARIANTS:
        mine, up, my_accuracy = measured(digits, **settings)
        # The worst loss nearby is lower, and so is the rise to it, by far.
        assert up < 0.75 * there, settings
        assert up - mine < 0.6 * (there - here), settings
        assert my_accuracy > accuracy - 0.01, settings
