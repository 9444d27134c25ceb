"""Penalties that an optimizer applies after its step, beside solvers of the same."""

import keras
import numpy as np
import pytest
import sklearn.linear_model
import tensorflow as tf

import kopt
from kopt.regularizers import L1, GroupLasso, SparseGroupLasso
from tests.sampling import sampled

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(80, 10)).astype("float32")
TRUE = RANDOM.normal(size=(10, 3)) * (np.arange(10) < 4)[:, None]
Y = (X @ TRUE + RANDOM.normal(size=(80, 3)) / 2).astype("float32")


def trained(optimizer, penalty, steps=400, y=Y, **options):
    """The kernel of a linear model after so many steps on all data."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(
        y.shape[1], use_bias=False, kernel_regularizer=penalty, **options
    )
    model = keras.Sequential([keras.Input((10,)), layer])
    model.compile(optimizer, "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensors((X, y)).repeat(steps)
    model.fit(data, shuffle=False, verbose=0)
    return np.array(keras.ops.cast(layer.kernel, "float32"))


def solved(shrink, y=Y):
    """The minimum of mean squared error and a penalty, by iteration in float64."""
    x, y = X.astype("float64"), y.astype("float64")
    rate = y.size / (2 * np.linalg.norm(x, 2) ** 2)
    weights = np.zeros((10, y.shape[1]))
    for _ in range(20_000):
        before = weights
        slope = 2 / y.size * x.T @ (x @ weights - y)
        weights = shrink(weights - rate * slope, rate)
        if abs(weights - before).max() < 1e-13:
            break
    return weights


def soft(weights, amount):
    return np.sign(weights) * np.maximum(abs(weights) - amount, 0)


def rows_shorter(weights, amount):
    length = np.linalg.norm(weights, axis=1, keepdims=True)
    return weights * np.maximum(1 - amount / np.maximum(length, 1e-300), 0)


def assert_same_solution(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(found == 0, expected == 0)
    assert 0 < (expected == 0).mean() < 1


def momentum(share, **options):
    return kopt.SGD(0.02, momentum=share, **options)


SGDS = {
    "plain": lambda: kopt.SGD(0.3),
    "momentum": lambda: momentum(0.9),
    "nesterov": lambda: momentum(0.9, nesterov=True),
}


@pytest.mark.parametrize("name", SGDS)
def test_l1_reaches_the_lasso_of_scikit_learn(name):
    y = Y[:, :1]
    lasso = sklearn.linear_model.Lasso(0.15, fit_intercept=False, tol=1e-10)
    expected = lasso.fit(X.astype("float64"), y[:, 0]).coef_[:, None]
    # scikit-learn halves the mean squared error.
    assert_same_solution(trained(SGDS[name](), L1(0.3, proximal=True), y=y), expected)


def test_group_lasso_reaches_the_multi_task_lasso_of_scikit_learn():
    lasso = sklearn.linear_model.MultiTaskLasso(0.3, fit_intercept=False, tol=1e-10)
    expected = lasso.fit(X.astype("float64"), Y.astype("float64")).coef_.T
    # Keras also takes the mean over the three outputs.
    penalty = GroupLasso(0.2, axis=-2, scale_by_size=False, proximal=True)
    assert_same_solution(trained(kopt.SGD(0.5), penalty, 600), expected)


def test_group_lasso_reaches_the_solution_of_an_iteration():
    expected = solved(lambda w, rate: rows_shorter(w, rate * 0.2 * 3**0.5))
    penalty = GroupLasso(0.2, axis=-2, proximal=True)
    assert_same_solution(trained(kopt.SGD(0.5), penalty, 600), expected)


def test_sparse_group_lasso_reaches_the_solution_of_an_iteration():
    def shrink(w, rate):
        return rows_shorter(soft(w, rate * 0.4 * 0.25), rate * 0.4 * 0.75)

    penalty = SparseGroupLasso(
        0.4, axis=-2, l1_ratio=0.25, scale_by_size=False, proximal=True
    )
    assert_same_solution(trained(kopt.SGD(0.5), penalty, 600), solved(shrink))


LASSO = solved(lambda w, rate: soft(w, 0.1 * rate))
PENALTY = {"l1": 0.1, "proximal": True}


def test_a_changed_coefficient_is_another_solution():
    found = trained(kopt.SGD(0.5), L1(0.11, proximal=True), 600)
    assert abs(found - LASSO).max() > 5e-3


@pytest.mark.parametrize("accumulation", [None, 2])
def test_accumulation_takes_one_proximal_step_an_update(accumulation):
    optimizer = kopt.SGD(0.5, gradient_accumulation_steps=accumulation)
    assert_same_solution(
        trained(optimizer, L1(**PENALTY), 400 * (accumulation or 1)), LASSO
    )


def test_xla_and_float64_reach_the_same_solution():
    assert_same_solution(
        trained(kopt.SGD(0.5), L1(**PENALTY), dtype="float64").astype("float64"), LASSO
    )


def test_a_groups_multiplier_counts_in_the_step():
    group = kopt.ParamGroup("kernel", learning_rate_multiplier=0.5)
    optimizer = kopt.SGD(1.0, param_groups=[group])
    assert_same_solution(trained(optimizer, L1(**PENALTY), 600), LASSO)


def one_step(optimizer, penalty, dtype="float32", start=1.0, gradient=0.0):
    variable = keras.Variable(np.full((4,), start), dtype=dtype)
    variable.regularizer = penalty
    optimizer.apply([keras.ops.full((4,), gradient, dtype)], [variable])
    return np.array(keras.ops.cast(variable, "float32"))


def test_a_step_shrinks_by_rate_times_factor_times_multiplier():
    penalty = L1(0.5, proximal=True)
    np.testing.assert_allclose(one_step(kopt.SGD(0.1), penalty), 0.95, rtol=1e-6)
    group = kopt.ParamGroup("variable", learning_rate_multiplier=0.5)
    found = one_step(kopt.SGD(0.1, param_groups=[group]), penalty)
    np.testing.assert_allclose(found, 0.975, rtol=1e-6)
    np.testing.assert_allclose(one_step(kopt.Adam(0.1), penalty), 0.95, rtol=1e-6)
    np.testing.assert_allclose(
        one_step(kopt.SGD(0.1, momentum=0.9), penalty), 0.5, rtol=1e-5
    )


OPTIMIZERS = [
    name
    for name in kopt.optimizers.__all__
    if isinstance(entry := getattr(kopt, name), type)
    and issubclass(entry, kopt.SGD.__mro__[1])
]


@pytest.mark.parametrize(
    "name", sampled(OPTIMIZERS, ["SGD", "Adam", "Lion", "Muon"], pytest.mark.slow)
)
def test_every_optimizer_makes_exact_zeros(name):
    penalty = L1(0.3, proximal=True)
    kernel = trained(getattr(kopt, name)(), penalty, steps=150)
    assert np.isfinite(kernel).all()
    still = trained(getattr(kopt, name)(), L1(0.0, proximal=True), steps=150)
    plain = trained(getattr(kopt, name)(), None, steps=150)
    np.testing.assert_allclose(still, plain, rtol=1e-4, atol=1e-5)
    assert (plain != 0).all()
    if name not in ("Adagrad", "Prodigy"):  # Their first steps are very short.
        assert abs(kernel).sum() < abs(plain).sum()


WRAPPERS = {
    "Lookahead": lambda: kopt.Lookahead(kopt.SGD(0.5)),
    "ScheduleFree": lambda: kopt.ScheduleFree(kopt.SGD(0.5)),
    "WeightAverage": lambda: kopt.WeightAverage(kopt.SGD(0.5)),
    "MomentumSAM": lambda: kopt.MomentumSAM(momentum(0.9), rho=1e-3),
    "use_ema": lambda: kopt.SGD(0.5, use_ema=True, ema_momentum=0.9),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_a_wrapper_evaluates_has_the_zeros_of_the_solution(name):
    # `fit` leaves the model at the point that the wrapper evaluates.
    found = trained(WRAPPERS[name](), L1(**PENALTY), 800)
    np.testing.assert_allclose(found, LASSO, atol=0.05)
    np.testing.assert_array_equal(found == 0, LASSO == 0)


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_16_bits_shrink_by_less_than_their_resolution(rounding):
    variable = keras.Variable(np.ones((4000,)), dtype="bfloat16")
    variable.regularizer = L1(1e-3, proximal=True)
    optimizer = kopt.SGD(1.0, bf16_rounding=rounding)
    for _ in range(50):
        optimizer.apply([keras.ops.zeros((4000,), "bfloat16")], [variable])
    mean = float(keras.ops.mean(keras.ops.cast(variable, "float32")))
    assert mean == pytest.approx(0.95, abs=3e-3)


def test_replicas_take_the_same_step(two_replicas):
    with two_replicas.scope():
        layer = keras.layers.Dense(3, use_bias=False, kernel_regularizer=L1(**PENALTY))
        model = keras.Sequential([keras.Input((10,)), layer])
        model.compile(kopt.SGD(0.5), "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensors((X, Y)).repeat(400)
    model.fit(data, shuffle=False, verbose=0)
    assert_same_solution(layer.kernel.numpy(), LASSO)


def test_a_pruning_mask_holds_beside_it():
    layer = keras.layers.Dense(3, use_bias=False, kernel_regularizer=L1(**PENALTY))
    model = keras.Sequential([keras.Input((10,)), layer])
    model = kopt.pruning.prune_low_magnitude(model, kopt.pruning.OneShot(0.5))
    model.compile(kopt.SGD(0.3), "mse", jit_compile=False)
    masked = layer.kernel.numpy() == 0
    model.fit(X, Y, batch_size=80, epochs=3, verbose=0)
    assert (layer.kernel.numpy()[masked] == 0).all()


def test_the_factor_moves_without_a_new_trace_and_zero_turns_it_off():
    penalty = L1(0.5, proximal=True)
    variable = keras.Variable(np.ones(3))
    variable.regularizer = penalty
    optimizer = kopt.SGD(0.1)
    optimizer.build([variable])
    traces = []

    @tf.function
    def step():
        traces.append(None)
        optimizer.apply([tf.zeros(3)], [variable])

    for factor, expected in ((0.5, 0.95), (1.0, 0.85), (0.0, 0.85)):
        penalty.l1 = factor
        step()
        np.testing.assert_allclose(variable, expected, rtol=1e-6)
    assert len(traces) == 1


def test_the_loss_shows_the_penalty_and_no_gradient_of_it_is_taken():
    penalty = L1(0.5, proximal=True)
    layer = keras.layers.Dense(2, kernel_regularizer=penalty)
    layer.build((None, 3))
    with tf.GradientTape() as tape:
        (loss,) = layer.losses
    expected = 0.5 * abs(layer.kernel.numpy()).sum()
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    assert tape.gradient(loss, layer.kernel.value) is None


@pytest.mark.parametrize(
    "optimizer",
    [
        "adam",
        keras.optimizers.SGD(0.1),
        kopt.Lookahead(keras.optimizers.SGD(0.1)),
        kopt.Mechanic(kopt.SGD(0.1)),
    ],
    ids=["name", "SGD", "Lookahead", "Mechanic"],
)
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_another_optimizer_is_refused_before_the_first_step(optimizer, run_eagerly):
    layer = keras.layers.Dense(3, kernel_regularizer=L1(0.1, proximal=True))
    model = keras.Sequential([keras.Input((10,)), layer])
    before = layer.kernel.numpy()
    model.compile(optimizer, "mse", jit_compile=False, run_eagerly=run_eagerly)
    with pytest.raises(ValueError, match=r"L1\(proximal=True\) needs an optimizer"):
        model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(layer.kernel, before)
    # To evaluate needs no optimizer.
    model.evaluate(X, Y, verbose=0)


def test_compiled_again_with_an_optimizer_of_kopt_it_trains():
    layer = keras.layers.Dense(3, kernel_regularizer=L1(0.1, proximal=True))
    model = keras.Sequential([keras.Input((10,)), layer])
    for optimizer in (keras.optimizers.SGD(), kopt.SGD(), keras.optimizers.SGD()):
        model.compile(optimizer, "mse", jit_compile=False)
        if isinstance(optimizer, kopt.SGD):
            model.fit(X, Y, verbose=0)
            continue
        with pytest.raises(ValueError, match="needs an optimizer"):
            model.fit(X, Y, verbose=0)
