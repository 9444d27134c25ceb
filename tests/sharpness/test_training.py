"""Two passes a step, one change: what surrounds the formulas."""

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
    same_weights,
    trained,
)

pytestmark = pytest.mark.slow

each_variant = pytest.mark.parametrize("variant", VARIANTS)


def one_step(model, x, y, optimizer=None, **arguments):
    """The weights' moves in one plain descent at rate 1."""
    before = model.get_weights()
    model.compile(optimizer or kopt.SGD(1.0), "mse", jit_compile=False)
    model.train_on_batch(x, y, **arguments)
    return [b - a for b, a in zip(before, model.get_weights(), strict=True)]


def from_first_weights(variant=None, build=mlp, **settings):
    keras.utils.set_random_seed(3)
    model = build()
    return aware(model, variant, **settings) if variant else model


@each_variant
def test_statistics_and_seeds_move_once_a_step(variant):
    def states(variant):
        # At a rate of zero both see the same weights in every step.
        model = trained(everything, variant, kopt.SGD(0.0), epochs=1)
        return [v.numpy() for v in model.non_trainable_variables]

    plain = states(None)
    assert len(plain) == 3  # mean, variance, seed
    for mine, its in zip(states(variant), plain, strict=True):
        np.testing.assert_array_equal(mine, its)


@each_variant
def test_logs_are_those_of_the_first_pass(variant):
    def history(variant):
        keras.utils.set_random_seed(3)
        model = aware(mlp(), variant, rho=0.5) if variant else mlp()
        model.compile(kopt.SGD(0.0), "mse", metrics=["mae"], jit_compile=False)
        return fit(model)

    assert history(variant) == history(None)


def test_the_trackers_of_several_losses_count_each_sample_once():
    inputs = keras.Input((FEATURES,))
    outputs = {name: layers.Dense(OUTPUTS, name=name)(inputs) for name in "ab"}
    model = aware(keras.Model(inputs, outputs))
    model.compile("sgd", {"a": "mse", "b": "mae"}, jit_compile=False)
    x, y = data()
    model.train_on_batch(x, {"a": y, "b": y})
    # Keras's trackers weigh a batch by its number of samples.
    counts = {m.name: float(m.count) for m in model.metrics if hasattr(m, "count")}
    assert counts == {"loss": len(x), "a_loss": len(x), "b_loss": len(x)}


class Dropped(keras.layers.Layer):
    """Multiplies its weights by random zeros and adds their squares to the loss."""

    def __init__(self, seeded, **arguments):
        super().__init__(**arguments)
        self.seed = keras.random.SeedGenerator(1) if seeded else None

    def build(self, shape):
        self.w = self.add_weight(shape=(64,), initializer="ones")

    def call(self, x):
        kept = keras.random.uniform((64,), seed=self.seed) < 0.5
        self.add_loss(keras.ops.sum(keras.ops.where(kept, self.w, 0.0) ** 2))
        return x


@pytest.mark.parametrize("seeded", [True, False])
def test_both_passes_drop_the_same_units(seeded):
    layer = Dropped(seeded)
    model = aware(keras.Sequential([keras.Input((1,)), layer]), rho=0.8)
    moves = []
    for _ in range(3):
        layer.w.assign(np.ones(64))
        zeros = np.zeros((2, 1))
        moves += one_step(model, zeros, zeros, kopt.SGD(0.1))[:1]
    for move in moves:
        # The slope of w² at 1 + 0.8 / sqrt(kept), for the kept ones alone.
        kept = move != 0
        assert 10 < kept.sum() < 54
        expected = 0.1 * 2 * (1 + 0.8 / np.sqrt(kept.sum()))
        np.testing.assert_allclose(move[kept], expected, rtol=1e-5)
    assert np.any(moves[0] != moves[1])


@each_variant
def test_a_constant_loss_scale_changes_nothing(variant):
    scaled = kopt.SGD(0.1, momentum=0.9, loss_scale_factor=1024.0)
    same_weights(trained(everything, variant, scaled), trained(everything, variant))


@each_variant
def test_an_overflow_skips_the_step_and_lowers_the_scale(variant):
    model = from_first_weights(variant)
    before = model.get_weights()
    optimizer = keras.optimizers.LossScaleOptimizer(
        kopt.SGD(0.1), initial_scale=2.0**127
    )
    model.compile(optimizer, "mse", jit_compile=False)
    x, y = data()
    model.train_on_batch(x, 100 * y)
    assert float(optimizer.dynamic_scale) == 2.0**126
    for mine, its in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, its)
    state = model.kopt_sharpness
    if variant == "looksam":
        assert int(state.step) == 0
        assert not any(np.any(d.numpy()) for d in state.directions)


@each_variant
def test_mixed_float16_follows_float32(variant):
    # One step: the direction must be right, and its length that of float32.
    def moves(policy, optimizer):
        keras.config.set_dtype_policy(policy)
        model = from_first_weights(variant, rho=0.2)
        return np.concatenate([m.ravel() for m in one_step(model, *data(), optimizer)])

    full = moves("float32", kopt.SGD(1.0))
    half = moves("mixed_float16", kopt.SGD(1.0))
    assert 0 < np.abs(half - full).max() < 0.01 * np.abs(full).max()


class OneHot(keras.layers.Layer):
    """An embedding whose gradient is dense."""

    def __init__(self, rows, columns, **arguments):
        super().__init__(**arguments)
        self.shape_ = (rows, columns)

    def build(self, shape):
        self.table = self.add_weight(shape=self.shape_, name="embeddings")

    def call(self, x):
        return keras.ops.one_hot(x, self.shape_[0]) @ self.table


def lookup(layer):
    words = keras.Input((4,), dtype="int32")
    return keras.Model(words, layers.Dense(OUTPUTS)(layers.Flatten()(layer(words))))


@pytest.mark.parametrize("jit_compile", [False, True])
@each_variant
def test_rows_of_a_table_train_as_a_dense_matrix(variant, jit_compile):
    words = np.random.default_rng(0).integers(2, 20, (40, 4))

    def train(layer):
        model = aware(lookup(layer), variant, rho=0.5)
        table = np.random.default_rng(1).normal(size=(20, 3))
        random = np.random.default_rng(2)
        rest = [random.normal(size=w.shape) for w in model.get_weights()[1:]]
        model.set_weights([table, *rest])
        model.compile(kopt.Adam(0.01), "mse", jit_compile=jit_compile)
        y = np.random.default_rng(3).normal(size=(40, OUTPUTS))
        model.fit(words, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        return model

    sparse, dense = train(layers.Embedding(20, 3)), train(OneHot(20, 3))
    assert distance(sparse, dense) < 2e-6


@pytest.mark.parametrize("variant", ["sam", "asam", "gsam"])
def test_a_lazy_optimizer_still_gets_rows(variant):
    model = aware(lookup(layers.Embedding(20, 3)), variant)
    model.compile(
        kopt.Adam(0.01, sparse="lazy", weight_decay=0.5), "mse", jit_compile=False
    )
    before = model.layers[1].embeddings.numpy()
    model.train_on_batch(np.array([[3, 3, 4, 5]] * 2), np.zeros((2, OUTPUTS)))
    moved = np.any(model.layers[1].embeddings.numpy() != before, axis=1)
    assert set(np.flatnonzero(moved)) == {3, 4, 5}


@each_variant
def test_a_frozen_layer_neither_moves_nor_counts(variant):
    x, y = data()
    model = from_first_weights(variant, rho=0.5)
    kopt.strip_sharpness_aware(model)
    model.layers[0].trainable = False
    moves = one_step(aware(model, variant, rho=0.5), x, y)
    assert not np.any(moves[0]) and not np.any(moves[1])
    # The same as a model that starts behind the frozen layer.
    plain = from_first_weights()
    head = keras.Sequential([keras.Input((5,)), plain.layers[1]])
    features = plain.layers[0](x)
    expected = one_step(aware(head, variant, rho=0.5), features, y)
    for mine, its in zip(moves[2:], expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-7)


class Unused(keras.Model):
    """Has a penalized layer that the loss does not depend on, but for its penalty."""

    def __init__(self, penalty, **arguments):
        super().__init__(**arguments)
        self.used, self.unused = layers.Dense(OUTPUTS), layers.Dense(2)
        self.penalty = penalty

    def build(self, shape):
        self.used.build(shape)
        self.unused.kernel_regularizer = self.penalty
        self.unused.build(shape)

    def call(self, x):
        return self.used(x)


@pytest.mark.parametrize("penalty", [None, lambda w: keras.ops.zeros(())])
@each_variant
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_weight_without_gradient_stays(variant, penalty):
    x, y = data()
    model = Unused(penalty)
    model.build((None, FEATURES))
    twin = keras.Sequential([keras.Input((FEATURES,)), model.used])
    start = model.get_weights()
    expected = one_step(aware(twin, variant, rho=0.5), x, y)
    model.set_weights(start)
    moves = one_step(aware(model, variant, rho=0.5), x, y)
    assert not np.any(moves[2]) and not np.any(moves[3])
    for mine, its in zip(moves[:2], expected, strict=True):
        np.testing.assert_array_equal(mine, its)


@each_variant
def test_sample_weights_count_in_both_passes(variant):
    x, y = data()
    loss = keras.losses.MeanSquaredError(reduction="sum")

    def moves(x, y, **arguments):
        model = from_first_weights(variant, rho=0.5)
        before = model.get_weights()
        model.compile(kopt.SGD(0.01), loss, jit_compile=False)
        model.train_on_batch(x, y, **arguments)
        return [a - b for a, b in zip(before, model.get_weights(), strict=True)]

    weight = np.array([2.0] * 8 + [0.0] * 40)
    weighted = moves(x, y, sample_weight=weight)
    repeated = moves(np.tile(x[:8], (2, 1)), np.tile(y[:8], (2, 1)))
    for mine, its in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-7)


def test_class_weights_count_in_both_passes():
    x, _ = data()
    labels = np.arange(len(x)) % OUTPUTS

    def moves(**arguments):
        model = from_first_weights("sam", rho=0.5)
        before = model.get_weights()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(kopt.SGD(1.0), loss, jit_compile=False)
        model.fit(x, labels, batch_size=48, verbose=0, shuffle=False, **arguments)
        return [a - b for a, b in zip(before, model.get_weights(), strict=True)]

    by_class = {0: 1.0, 1: 3.0, 2: 0.5}
    by_sample = np.array([by_class[label] for label in labels])
    by_class, by_sample = moves(class_weight=by_class), moves(sample_weight=by_sample)
    for mine, its in zip(by_class, by_sample, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-6)


class OwnLoss(keras.Model):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.dense = layers.Dense(OUTPUTS, use_bias=False)

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        penalty = 0.1 * keras.ops.sum(keras.ops.square(self.dense.kernel))
        return keras.ops.mean((y - y_pred) ** 2) + penalty


@pytest.mark.parametrize(
    "penalty",
    [
        kopt.regularizers.GroupLasso(0.5),
        kopt.regularizers.HoyerSquare(0.5, by_group=True),
        kopt.regularizers.SoftOrthogonal(0.5),
    ],
    ids=lambda penalty: type(penalty).__name__,
)
def test_a_penalty_knows_the_axes_of_a_weight_in_both_passes(penalty):
    # The filters of a transposed convolution are not on its last axis. A step uphill
    # of length zero is plain training.
    def trained(is_aware):
        keras.utils.set_random_seed(0)
        layer = layers.Conv2DTranspose(3, 2, kernel_regularizer=penalty)
        model = keras.Sequential([keras.Input((4, 4, 2)), layer])
        if is_aware:
            model = kopt.sharpness_aware(model, rho=0.0)
        model.compile(kopt.SGD(0.1), "mse")
        model.train_on_batch(np.ones((2, 4, 4, 2)), np.ones((2, 5, 5, 3)))
        return model.get_weights()

    for plain, two_passes in zip(trained(False), trained(True), strict=True):
        np.testing.assert_allclose(two_passes, plain, rtol=1e-6)


@each_variant
def test_regularizers_see_the_moved_weights(variant):
    x, y = data()
    dense = layers.Dense(
        OUTPUTS, use_bias=False, kernel_regularizer=kopt.regularizers.L2(0.1)
    )
    model = keras.Sequential([keras.Input((FEATURES,)), dense])
    twin = OwnLoss()
    twin(x)
    twin.set_weights(model.get_weights())
    pairs = zip(
        one_step(aware(model, variant, rho=0.5), x, y),
        one_step(aware(twin, variant, rho=0.5), x, y),
        strict=True,
    )
    for mine, its in pairs:
        np.testing.assert_allclose(mine, its, rtol=1e-5)


@pytest.mark.parametrize("make", [kopt.SGD, keras.optimizers.SGD])
@pytest.mark.parametrize("variant", ["sam", "asam", "gsam"])
def test_accumulation_averages_the_gradients_of_two_passes_each(variant, make):
    x, y = data()
    halves = [(x[:24], y[:24]), (x[24:], y[24:])]
    alone = [
        one_step(from_first_weights(variant, rho=0.5), *half, make(0.5))
        for half in halves
    ]
    model = from_first_weights(variant, rho=0.5)
    before = model.get_weights()
    model.compile(make(0.5, gradient_accumulation_steps=2), "mse", jit_compile=False)
    for half in halves:
        model.train_on_batch(*half)
    moves = [b - a for b, a in zip(before, model.get_weights(), strict=True)]
    for mine, first, second in zip(moves, *alone, strict=True):
        np.testing.assert_allclose(mine, (first + second) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"run_eagerly": True}, {"steps_per_execution": 4}],
    ids=["eager", "several steps at once"],
)
@each_variant
def test_ways_to_run_a_step_agree(variant, options):
    one = trained(everything, variant, epochs=1)
    assert distance(one, trained(everything, variant, epochs=1, **options)) < 1e-5


@each_variant
def test_xla_computes_the_same(variant):
    def build():
        inputs = keras.Input((FEATURES,))
        hidden = layers.BatchNormalization()(layers.Dense(5, "tanh")(inputs))
        return keras.Model(inputs, layers.Dense(OUTPUTS)(hidden))

    compiled = trained(build, variant, epochs=1, jit_compile=True)
    assert distance(compiled, trained(build, variant, epochs=1)) < 1e-5


def test_a_step_is_traced_once():
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    model = aware(
        keras.Sequential([keras.Input((FEATURES,)), Counted(), *mlp().layers])
    )
    model.compile("sgd", "mse", jit_compile=False)
    fit(model, 1)
    traced = len(calls)
    fit(model, 2)
    assert len(calls) == traced


@pytest.mark.parametrize(
    "optimizer",
    [
        *(keras.optimizers.Adam, keras.optimizers.Lion, keras.optimizers.Lamb),
        *(kopt.AdamW, kopt.LAMB, kopt.RMSprop),
    ],
)
def test_any_optimizer_learns_by_it(optimizer):
    keras.utils.set_random_seed(3)
    model = aware(mlp(), "gsam")
    model.compile(optimizer(0.01), "mse", jit_compile=False)
    history = fit(model, 8)["loss"]
    assert history[-1] < 0.9 * history[0]


def test_evaluation_and_prediction_are_plain():
    x, y = data()
    model = from_first_weights("sam", build=mlp)
    plain = from_first_weights()
    for one in (model, plain):
        one.compile("sgd", "mse")
    assert model.evaluate(x, y, verbose=0) == plain.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), plain.predict(x, verbose=0)
    )


def test_a_model_built_by_its_first_batch_works():
    model = keras.Sequential([layers.Dense(5), layers.Dense(OUTPUTS)])
    aware(model, "looksam").compile("sgd", "mse", jit_compile=False)
    fit_on = data()
    first, *_, last = model.fit(*fit_on, epochs=5, verbose=0).history["loss"]
    assert last < first
    assert len(model.kopt_sharpness.directions) == 4


def test_looksam_keeps_its_directions_when_a_layer_thaws():
    model = from_first_weights()
    model.layers[0].trainable = False
    aware(model, "looksam").compile(kopt.SGD(0.1), "mse", jit_compile=False)
    fit(model, 1)
    kept = [d.numpy() for d in model.kopt_sharpness.directions]
    model.layers[0].trainable = True
    model.compile(kopt.SGD(0.0), "mse", jit_compile=False)
    model.make_train_function()
    now = [d.numpy() for d in model.kopt_sharpness.directions]
    assert len(now) == 4 and not np.any(now[0]) and np.any(kept[0])
    for mine, its in zip(now[2:], kept, strict=True):
        np.testing.assert_array_equal(mine, its)
    fit(model, 1)


def test_looksam_makes_the_second_pass_once_in_a_period():
    seen = []

    class Watched(keras.losses.Loss):
        def call(self, y, p):
            seen.append(1)
            return keras.ops.mean((y - p) ** 2, axis=-1)

    model = aware(mlp(), "looksam", period=3)
    model.compile("sgd", Watched(), run_eagerly=True)
    model.train_on_batch(*data())  # step 0, which builds, too
    seen.clear()
    for _ in range(6):
        model.train_on_batch(*data())
    # Of steps 1 to 6, it looks at 3 and 6.
    assert len(seen) == 6 + 2
