"""Two replicas train as one, or each looks for itself."""

import keras
import numpy as np
import pytest

import kopt
from tests.sharpness.nets import (
    FEATURES,
    OUTPUTS,
    VARIANTS,
    aware,
    data,
    distance,
    everything,
    fit,
    layers,
    mlp,
)

pytestmark = pytest.mark.slow


def table():
    """A model whose batches may be cut in two: without statistics and dropout."""
    numbers, words = keras.Input((FEATURES,)), keras.Input((4,), dtype="int32")
    rows = layers.Flatten()(layers.Embedding(20, 3)(words))
    hidden = layers.Dense(8, "tanh")(layers.Concatenate()([numbers, rows]))
    return keras.Model([numbers, words], layers.Dense(OUTPUTS)(hidden))


def build(make, variant, optimizer, **settings):
    keras.utils.set_random_seed(3)
    model = aware(make(), variant, **{"rho": 0.3, **settings})
    model.compile(optimizer, "mse", jit_compile=False)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_replicas_train_as_one(variant, two_replicas):
    with two_replicas.scope():
        model = build(table, variant, kopt.Adam(0.01))
    fit(model)
    alone = build(table, variant, kopt.Adam(0.01))
    fit(alone)
    # Sums in another order; by processor up to 2.4e-6 were seen.
    assert distance(model, alone) < 5e-6
    if variant == "looksam":
        pairs = zip(
            model.kopt_sharpness.directions,
            alone.kopt_sharpness.directions,
            strict=True,
        )
        assert model.kopt_sharpness.step.numpy() == 12
        for mine, its in pairs:
            np.testing.assert_allclose(mine.numpy(), its.numpy(), atol=2e-5)


@pytest.mark.parametrize("optimizer", [kopt.SGD, keras.optimizers.SGD])
@pytest.mark.parametrize("variant", ["sam", "asam", "gsam"])
def test_replicas_that_look_alone_equal_accumulated_half_batches(
    variant, optimizer, two_replicas
):
    x, y = data()
    with two_replicas.scope():
        model = build(mlp, variant, optimizer(0.5), per_replica=True)
    # `train_on_batch` would give the whole batch to each.
    model.fit(x, y, batch_size=48, verbose=0, shuffle=False)
    halves = build(mlp, variant, optimizer(0.5, gradient_accumulation_steps=2))
    for half in (slice(0, 24), slice(24, 48)):
        halves.train_on_batch(x[half], y[half])
    assert distance(model, halves) < 1e-6
    whole = build(mlp, variant, optimizer(0.5))
    whole.train_on_batch(x, y)
    assert distance(model, whole) > 1e-4


@pytest.mark.parametrize("variant", ["sam", "looksam"])
def test_replicas_with_statistics_and_dropout_stay_equal(variant, two_replicas):
    with two_replicas.scope():
        model = build(everything, variant, keras.optimizers.Adam(0.01))
    losses = fit(model, 3)["loss"]
    assert losses[-1] < losses[0]
    for weight in model.trainable_variables:
        first, second = two_replicas.experimental_local_results(weight.value)
        np.testing.assert_array_equal(first.numpy(), second.numpy())
