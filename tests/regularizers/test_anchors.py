"""L2SP and EWC: weights held to values that are noted on a finished model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import regularizers
from kopt.regularizers import EWC, L2SP, apply
from tests.reference.regularizers import gradient

RANDOM = np.random.default_rng(5)
FISHER = [RANDOM.uniform(0, 2, shape) for shape in ((3, 4), (4,), (4, 1), (1,))]


def model_of(**options):
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="first", **options),
            keras.layers.Dense(1, name="last", dtype="float32"),
        ]
    )


def held(penalty, model=None, match="first"):
    model = model or model_of()
    fisher = FISHER if isinstance(penalty, EWC) else None
    return apply(model, {match: penalty}, fisher=fisher)


def moved(model):
    """Move the first kernel away from its anchor; both, in float64."""
    anchor = model.layers[0].kernel.numpy().astype("float64")
    model.layers[0].kernel.assign(anchor + RANDOM.normal(size=(3, 4)))
    return model.layers[0].kernel.numpy().astype("float64"), anchor


def formula(penalty, kernel, anchor):
    weight = FISHER[0].astype("float32") if isinstance(penalty, EWC) else 1.0
    return penalty.factor * (weight * (kernel - anchor) ** 2).sum()


PENALTIES = [L2SP(0.3), EWC(0.3)]
each = pytest.mark.parametrize("penalty", PENALTIES, ids=["L2SP", "EWC"])


@each
def test_equals_its_formula_in_value_and_slope(penalty):
    model = held(penalty)
    assert [float(loss) for loss in model.losses] == [0.0]
    kernel, anchor = moved(model)
    variable = model.layers[0].kernel
    with tf.GradientTape() as tape:
        (value,) = model.losses
    assert float(value) == pytest.approx(formula(penalty, kernel, anchor), rel=1e-6)
    slope = tape.gradient(value, variable.value)
    expected = gradient(lambda weights: formula(penalty, weights, anchor), kernel)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


@each
def test_at_the_anchor_the_slope_is_zero(penalty):
    model = held(penalty)
    variable = model.layers[0].kernel
    with tf.GradientTape() as tape:
        (value,) = model.losses
    np.testing.assert_array_equal(
        tape.gradient(value, variable.value), np.zeros((3, 4))
    )


@each
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_step_of_fit_follows_the_slope_and_the_factor_moves(penalty, jit_compile):
    penalty = type(penalty)(0.3)
    model = held(penalty)
    kernel, anchor = moved(model)
    model.compile(
        keras.optimizers.SGD(0.1), lambda y, p: 0 * p, jit_compile=jit_compile
    )
    traces = []
    inner = model.call
    model.call = lambda *a, **k: (traces.append(None), inner(*a, **k))[1]
    x, y = np.ones((4, 3)), np.ones((4, 1))
    for factor in (0.3, 0.1):
        penalty.factor = factor
        slope = gradient(lambda w: formula(penalty, w, anchor), kernel)
        model.fit(x, y, verbose=0)
        kernel = kernel - 0.1 * slope
        np.testing.assert_allclose(model.layers[0].kernel, kernel, rtol=1e-5, atol=1e-6)
    # Keras runs the model once to build the metrics, and traces it once.
    assert len(traces) <= 2


@each
def test_anchors_are_saved_with_the_model_and_are_no_weights(penalty, tmp_path):
    before = len(model_of().weights)
    model = held(penalty)
    assert len(model.weights) == len(model.get_weights()) == before
    assert model.count_params() == 21
    kernel, anchor = moved(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert len(again.weights) == before
    (value,) = again.losses
    assert float(value) == pytest.approx(formula(penalty, kernel, anchor), rel=1e-6)


@each
def test_a_training_goes_on_from_a_file_as_without_a_stop(penalty, tmp_path):
    model = held(penalty)
    model.compile("adam", "mse", jit_compile=False)
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    model.fit(x, y, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, again):
        one.fit(x, y, epochs=2, verbose=0, shuffle=False)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@each
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_precisions(penalty, policy):
    model = held(penalty, model_of(dtype=policy))
    kernel, anchor = moved(model)
    (value,) = model.losses
    assert value.dtype == "float32"
    assert float(value) == pytest.approx(formula(penalty, kernel, anchor), rel=1e-6)
    model.compile("adam", "mse", jit_compile=False)
    history = model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0).history
    assert np.isfinite(history["loss"]).all()


@each
def test_one_object_holds_each_weight_to_its_own_values(penalty):
    model = held(penalty, match=".*")
    assert [float(loss) for loss in model.losses] == [0.0, 0.0]
    assert model.layers[0].kernel.regularizer is model.layers[1].kernel.regularizer


@each
def test_comes_off_and_leaves_the_class_that_was(penalty):
    kind = type(model_of())
    model = held(penalty)
    assert type(model) is not kind
    apply(model, {"first": None})
    assert type(model) is kind
    assert not model.losses


@each
def test_a_second_rule_elsewhere_leaves_the_anchor_where_it_is(penalty):
    model = held(penalty)
    kernel, anchor = moved(model)
    apply(model, {"last": regularizers.L2(0.0)})
    value = float(sum(model.losses))
    assert value == pytest.approx(formula(penalty, kernel, anchor), rel=1e-6)


def test_applied_again_it_holds_to_the_values_of_that_moment():
    model = held(L2SP(0.3))
    moved(model)
    held(L2SP(0.3), model)
    assert float(sum(model.losses)) == 0


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(4)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("in_order", [True, False])
def test_a_model_that_forgets_regularizers_keeps_them_with_the_anchors(
    in_order, tmp_path
):
    # `KeepsRegularizers` and `AnchoredModel`, in both orders.
    model = Own()
    model.build((None, 3))
    model(np.ones((1, 3)))
    steps = [
        lambda: apply(model, {"dense": L2SP(0.5)}),
        lambda: apply(model, {"dense": regularizers.L2(0.0)}, weights="bias"),
    ]
    for step in steps if in_order else reversed(steps):
        step()
    model.dense.kernel.assign_add(np.ones((3, 4)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert float(sum(again.losses)) == pytest.approx(6.0, rel=1e-6)


def test_an_attention_has_an_anchor_for_each_projection(tmp_path):
    inputs = keras.Input((5, 8))
    outputs = keras.layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    model = apply(keras.Model(inputs, outputs), {"attention": L2SP(1.0)})
    kernels = [weight for weight in model.weights if weight.name == "kernel"]
    for kernel in kernels:
        kernel.assign_add(np.ones(kernel.shape))
    expected = sum(np.prod(kernel.shape) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert float(sum(again.losses)) == pytest.approx(expected, rel=1e-6)


def test_pruned_and_sharpness_aware_models_keep_their_anchors(tmp_path):
    model = held(L2SP(0.5))
    model = kopt.pruning.prune_low_magnitude(model, kopt.pruning.OneShot(0.5))
    model = kopt.sharpness_aware(model)
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    before = float(sum(model.losses))
    assert before > 0
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert float(sum(again.losses)) == pytest.approx(before, rel=1e-6)


def test_replicas_are_held_to_the_same_values(two_replicas):
    with two_replicas.scope():
        model = held(L2SP(0.5))
        model.compile(keras.optimizers.SGD(0.1), lambda y, p: 0 * p, jit_compile=False)
    anchor = model.layers[0].kernel.numpy()
    model.layers[0].kernel.assign(anchor + 1)
    model.fit(np.ones((4, 3)), np.ones((4, 1)), batch_size=4, verbose=0)
    # The slope is 0.5 * 2 * 1.
    np.testing.assert_allclose(model.layers[0].kernel, anchor + 0.9, rtol=1e-5)


@each
def test_without_apply_there_is_nothing_to_hold_to(penalty):
    layer = keras.layers.Dense(2, kernel_regularizer=penalty)
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r"Put it on the finished model: `kopt"):
        _ = layer.losses


def test_a_clone_says_that_it_has_no_values():
    clone = keras.models.clone_model(held(L2SP()))
    with pytest.raises(ValueError, match="and again on a clone"):
        _ = clone.losses


def test_a_weight_file_without_the_values_is_refused(tmp_path):
    model_of().save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match="Load weights before"):
        held(L2SP()).load_weights(tmp_path / "plain.weights.h5")


@pytest.mark.parametrize(
    ("rules", "fisher", "message"),
    [
        ({"first": EWC()}, None, "no `fisher`"),
        ({"first": L2SP()}, FISHER, "`fisher` without `EWC`"),
        ({"first": EWC()}, FISHER[:2], "one array for each of `model.weights`"),
        ({"first": EWC()}, [-array for array in FISHER], "at least 0"),
        ({"first": regularizers.DeCov()}, None, "what a layer puts out"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changed(rules, fisher, message):
    model = model_of()
    with pytest.raises(ValueError, match=message):
        apply(model, rules, fisher=fisher)
    assert model.layers[0].kernel.regularizer is None
