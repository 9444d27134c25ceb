"""The four variants against float64 references and closed forms."""

import functools

import keras
import numpy as np
import pytest

import kopt
from tests.reference import sharpness as reference
from tests.sampling import sampled
from tests.sharpness.nets import (
    FEATURES,
    OUTPUTS,
    VARIANTS,
    aware,
    distance,
    everything,
    fit,
    mlp,
    trained,
)

STEPS, BATCH = 25, 8
RATE = 3 / 16  # exact in float32
CASES = {
    "sam": {"rho": 0.3},
    "asam": {"rho": 0.7, "eta": 0.05},
    "gsam": {"rho": 0.3, "alpha": 0.6},
    "looksam": {"rho": 0.3, "alpha": 0.5, "period": 4},
}


def stream():
    random = np.random.default_rng(1)
    x = random.normal(size=(STEPS, BATCH, FEATURES))
    y = np.sin(3 * x @ random.normal(size=(FEATURES, OUTPUTS)))
    return list(zip(x, y, strict=True))


@functools.cache
def with_kopt(variant, dtype):
    """First and last weights."""
    keras.backend.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    model = kopt.sharpness_aware(mlp(), variant=variant, **CASES[variant])
    first = [weight.astype("float64") for weight in model.get_weights()]
    model.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=False)
    for x, y in stream():
        model.train_on_batch(x.astype(dtype), y.astype(dtype))
    return first, model.get_weights()


def largest_difference(weights, expected):
    pairs = zip(weights, expected, strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_25_steps_follow_the_paper(variant, dtype, limit):
    settings = CASES[variant]
    first, last = with_kopt(variant, dtype)
    expected = reference.train(variant, first, stream(), RATE, **settings)
    assert largest_difference(last, expected) < limit


@pytest.mark.parametrize(
    ("variant", "name"),
    [(variant, name) for variant in VARIANTS for name in CASES[variant]],
)
def test_the_comparison_notices_another_number(variant, name):
    settings = CASES[variant]
    first, last = with_kopt(variant, "float64")
    changed = settings[name] + 1 if name == "period" else settings[name] * 1.03
    others = {**settings, name: changed}
    expected = reference.train(variant, first, stream(), RATE, **others)
    assert largest_difference(last, expected) > 1e-5


def test_the_variants_differ():
    settings = {"rho": 0.3, "alpha": 0.6, "eta": 0.05, "period": 4}
    first = [weight.astype("float64") for weight in mlp().get_weights()]
    ends = [
        reference.train(variant, first, stream(), RATE, **settings)
        for variant in VARIANTS
    ]
    for place, one in enumerate(ends):
        for other in ends[:place]:
            assert largest_difference(one, other) > 1e-3


class Quadratic(keras.layers.Layer):
    """Adds half of the sum of `curvature * weight²` to the loss."""

    def __init__(self, curvature, **arguments):
        super().__init__(**arguments)
        self.curvature = curvature

    def build(self, shape):
        self.w = self.add_weight(shape=(len(self.curvature),), initializer="ones")

    def call(self, x):
        self.add_loss(keras.ops.sum(self.w**2 * self.curvature) / 2)
        return x


def after_one_step(curvature, start, rate, **settings):
    layer = Quadratic(np.array(curvature, "float32"))
    model = keras.Sequential([keras.Input((1,)), layer])
    layer.w.assign(start)
    kopt.sharpness_aware(model, **settings).compile(kopt.SGD(rate))
    model.train_on_batch(np.zeros((2, 1)))
    return layer.w.numpy()


def test_sam_on_a_quadratic_descends_by_the_slope_up_the_hill():
    a, w = np.array([4.0, 1.0]), np.array([0.75, 4.0])
    # The gradient (3, 4) has length 5.
    expected = w - 0.1 * a * (w + 0.5 * np.array([0.6, 0.8]))
    found = after_one_step(a, w, 0.1, rho=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gsam_on_a_quadratic_takes_off_what_is_orthogonal():
    a, w = np.array([4.0, 1.0]), np.array([0.75, 4.0])
    g, there = a * w, a * (w + 0.5 * np.array([0.6, 0.8]))
    across = g - there * (g @ there) / (there @ there)
    found = after_one_step(a, w, 0.1, rho=0.5, variant="gsam", alpha=0.3)
    np.testing.assert_allclose(found, w - 0.1 * (there - 0.3 * across), rtol=1e-6)


def test_asam_looks_the_same_whatever_the_scale_of_a_weight():
    # Of `a w² / 2`, a weight twice as large under a quarter of the curvature is the
    # same function; it must move twice as far for the same relative step.
    settings = {"rho": 0.5, "variant": "asam", "eta": 0.0}
    small = after_one_step([4.0, 1.0], [0.75, 4.0], 0.1, **settings)
    large = after_one_step([1.0, 1.0], [1.5, 4.0], 0.4, **settings)
    np.testing.assert_allclose(large[0], 2 * small[0], rtol=1e-6)


def test_a_gradient_of_zero_leads_nowhere():
    for variant in VARIANTS:
        found = after_one_step([4.0, 1.0], [0.0, 0.0], 0.1, rho=0.5, variant=variant)
        np.testing.assert_array_equal(found, [0.0, 0.0])


@pytest.mark.parametrize("optimizer", sampled([kopt.Adam, kopt.SGD], [kopt.SGD]))
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_length_zero_is_plain_training_bit_for_bit(variant, optimizer):
    plain = trained(everything, None, optimizer(0.01))
    model = trained(everything, variant, optimizer(0.01), settings={"rho": 0.0})
    assert distance(model, plain) == 0.0


def test_looksam_that_looks_each_time_is_sam():
    model = trained(everything, "looksam", settings={"rho": 0.1, "period": 1})
    assert distance(model, trained(everything, "sam", settings={"rho": 0.1})) < 1e-6


def test_gsam_without_alpha_is_sam():
    model = trained(everything, "gsam", settings={"rho": 0.1, "alpha": 0.0})
    assert distance(model, trained(everything, "sam", settings={"rho": 0.1})) < 1e-6


def test_a_schedule_moves_rho_with_the_updates():
    class Later(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.where(step < 6, 0.0, 0.5)

    model = trained(mlp, "sam", settings={"rho": Later()}, epochs=1)
    plain = trained(mlp, None, epochs=1)
    assert distance(model, plain) == 0.0
    fit(model, 1), fit(plain, 1)
    assert distance(model, plain) > 1e-3


def test_biases_keep_their_scale_in_asam():
    # Weights of zero do not move in ASAM without eta; biases of zero do.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.layers[0].kernel.assign([[0.0]])
    aware(model, "asam", rho=0.5, eta=0.0).compile(kopt.SGD(0.1), "mse")
    model.train_on_batch(np.ones((1, 1)), np.ones((1, 1)))
    # The loss (1 - k - b)² at b = -0.5, k = 0 has the slope -3 by both.
    kernel, bias = model.get_weights()
    np.testing.assert_allclose([kernel[0, 0], bias[0]], [0.3, 0.3], rtol=1e-6)
