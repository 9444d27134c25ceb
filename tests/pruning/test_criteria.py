"""What decides which weights are pruned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt import pruning
from kopt.pruning import Gradient, Movement, prune_low_magnitude
from kopt.pruning._criterion import Magnitude
from tests.pruning.nets import at_once, data, growing, layers, mlp, sparsities, train
from tests.reference import pruning as reference

RATE, STEPS = 0.2, 24
COMPILED = [dict(jit_compile=False), dict(jit_compile=True), dict(run_eagerly=True)]


def linear():
    return keras.Sequential([keras.Input((6,)), layers.Dense(3, use_bias=False)])


def slope(kernel, x, y):
    """The gradient of the mean squared error of a linear model."""
    return 2 / y.size * x.T @ (x @ kernel - y)


def from_zero(final=0.6):
    return pruning.PolynomialDecay(0.0, final, 1, STEPS, frequency=3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_magnitude_scores_in_float32_and_without_a_sign(dtype):
    weights = keras.ops.cast([-2.0, 0.0, 1.5], dtype)
    scores = Magnitude().scores([], [weights])[0]
    assert scores.dtype == "float32" and not Magnitude.signed
    np.testing.assert_array_equal(np.abs(scores), [2, 0, 1.5])


@pytest.mark.parametrize("arguments", COMPILED)
def test_movement_takes_the_steps_of_its_paper(arguments):
    x, y = data()
    model = linear()
    start = model.get_weights()[0].astype("float64")
    prune_low_magnitude(model, from_zero(), criterion="movement")
    model.compile(keras.optimizers.SGD(RATE), "mse", **arguments)
    train(model, epochs=4)
    batches = [slice(8 * (i % 6), 8 * (i % 6) + 8) for i in range(STEPS)]
    kernel, score, mask = reference.movement(
        start,
        lambda masked, step: slope(masked, x[batches[step]], y[batches[step]]),
        RATE,
        STEPS,
        renewals=range(1, STEPS + 1, 3),
        sparsity=lambda step: reference.polynomial(step, 0.0, 0.6, 1, STEPS, 3),
    )
    (member,) = model.kopt_pruning.members
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(member.mask.numpy(), mask)
    np.testing.assert_allclose(member.memory["score"], RATE * score, rtol=2e-5)
    np.testing.assert_allclose(member.memory["weights"], kernel, rtol=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], kernel * mask, rtol=1e-5)


def test_movement_differs_from_magnitude():
    def pruned(criterion):
        keras.utils.set_random_seed(3)
        model = prune_low_magnitude(mlp(), from_zero(), criterion=criterion)
        model.compile(keras.optimizers.SGD(RATE), "mse")
        return [mask.numpy() for mask in _masks_of(train(model, epochs=4))]

    first, second = pruned("movement"), pruned("magnitude")
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    assert [a.mean() for a in first] == [b.mean() for b in second]


def test_movement_knows_what_an_earlier_constraint_made_of_the_weights():
    model = mlp("unit_norm")
    prune_low_magnitude(model, from_zero(), criterion="movement")
    model.compile(keras.optimizers.SGD(RATE), "mse")
    train(model, epochs=4)
    for member in model.kopt_pruning.members:
        kept = member.mask.numpy()
        seen = member.memory["weights"].numpy()[kept]
        np.testing.assert_array_equal(seen, member.variable.numpy()[kept])


@pytest.mark.parametrize("optimizer_class", [keras.optimizers.Adam, kopt.AdamW])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_movement_reaches_the_sparsity_with_every_optimizer(optimizer_class, scope):
    model = prune_low_magnitude(mlp(), from_zero(), criterion="movement", scope=scope)
    model.compile(optimizer_class(0.01, use_ema=True), "mse")
    report = pruning.sparsity_report(train(model, epochs=4))
    # At step 22, the last that renews the masks.
    assert report.sparsity == pytest.approx(float(from_zero()(22)[1]), abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(sparsity_m_by_n=(2, 4)), "when none has moved"),
        (dict(pruning_schedule=at_once()), "prunes 50 % at step 1"),
    ],
)
def test_movement_before_any_step_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune_low_magnitude(mlp(), criterion="movement", **arguments)


@pytest.mark.parametrize("pattern", [{}, dict(sparsity_m_by_n=(1, 2))])
def test_a_gradient_is_that_of_the_loss_on_the_samples(pattern):
    x, y = data()
    model = linear()
    kernel = model.get_weights()[0].astype("float64")
    prune_low_magnitude(
        model, pruning.OneShot(0.5), criterion=Gradient(x, y, "mse"), **pattern
    )
    scores = np.abs(kernel * slope(kernel, x, y))
    mask = reference.unstructured(scores, 0.5)
    if pattern:
        mask = reference.m_of_n(scores, 1, 2)
    np.testing.assert_array_equal(model.get_weights()[0] != 0, mask)


@pytest.mark.parametrize("arguments", COMPILED)
def test_gradients_are_taken_where_training_has_come_to(arguments):
    x, y = data()
    model = linear()
    prune_low_magnitude(
        model, pruning.OneShot(0.5, step=7), criterion=Gradient(x, y, "mse")
    )
    twin = linear()
    twin.set_weights(model.get_weights())
    for one in (model, twin):
        one.compile(keras.optimizers.SGD(RATE), "mse", **arguments)
        train(one, epochs=1)
    kernel = twin.get_weights()[0]
    mask = reference.unstructured(kernel * slope(kernel, x, y), 0.5)
    np.testing.assert_allclose(model.get_weights()[0], kernel * mask, rtol=1e-6)


def test_gradients_of_a_global_budget_empty_what_the_loss_does_not_see():
    x, y = data()
    inputs = keras.Input((6,))
    seen, unseen = layers.Dense(3, name="seen"), layers.Dense(3, name="unseen")
    nearly_nothing = layers.Rescaling(1e-6)(unseen(inputs))
    model = keras.Model(inputs, layers.Add()([seen(inputs), nearly_nothing]))
    criterion = Gradient(x, y, keras.losses.MeanSquaredError())
    prune_low_magnitude(
        model, pruning.OneShot(0.5), criterion=criterion, scope="global"
    )
    report = pruning.sparsity_report(model)
    assert {w.path: w.sparsity for w in report.weights} == {
        "seen/kernel": 0.0,
        "unseen/kernel": 1.0,
    }


def test_gradients_tell_which_filters_the_loss_would_miss():
    x, y = data()
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, name="hidden"),
            layers.BatchNormalization(),
            layers.Dense(3, name="last"),
        ]
    )
    kernel = model.get_layer("last").kernel
    # Large units that nothing comes of, and small ones that the outputs are made of.
    model.get_layer("hidden").kernel.assign(np.ones((6, 4)) * [5.0, 5.0, 0.1, 0.1])
    kernel.assign(np.array([[1e-6], [1e-6], [1.0], [1.0]]) * np.ones((4, 3)))
    prune_low_magnitude(
        model,
        pruning.OneShot(0.5),
        structure="filters",
        criterion=Gradient(x, y, "mse"),
    )
    hidden = model.get_layer("hidden").get_weights()[0]
    assert hidden.any(axis=0).tolist() == [False, False, True, True]


def test_movement_of_filters_is_refused():
    with pytest.raises(ValueError, match="scores single weights or blocks"):
        prune_low_magnitude(
            mlp(), from_zero(), structure="filters", criterion="movement"
        )


def test_a_local_budget_of_gradients_is_each_weights_own():
    x, y = data()
    model = prune_low_magnitude(mlp(), growing(), criterion=Gradient(x, y, "mse"))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    assert sparsities(train(model)) == [0.5, 0.5]


@pytest.mark.parametrize("kind", ["movement", "gradient"])
def test_training_goes_on_bit_for_bit_after_loading(kind, tmp_path):
    x, y = data()
    criterion = Gradient(x, y, "mse") if kind == "gradient" else Movement()
    model = prune_low_magnitude(mlp(), from_zero(), criterion=criterion)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    train(model, epochs=2).save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, again):
        train(one, epochs=2)
    pairs = zip(model.get_weights(), again.get_weights(), strict=True)
    assert all(np.array_equal(mine, other) for mine, other in pairs)
    assert min(sparsities(again)) > 0.5


def test_a_checkpoint_of_tensorflow_brings_the_scores_along(tmp_path):
    def pruned():
        return prune_low_magnitude(mlp(), from_zero(), criterion="movement")

    model = pruned()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    path = tf.train.Checkpoint(model=train(model)).save(tmp_path / "checkpoint")
    again = pruned()
    tf.train.Checkpoint(model=again).restore(path).expect_partial()
    for mine, other in zip(_members(model), _members(again), strict=True):
        for name, variable in mine.memory.items():
            np.testing.assert_array_equal(variable.numpy(), other.memory[name].numpy())


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((3, 6)), np.ones((2, 3)), "same number of samples"),
        (np.ones((0, 6)), np.ones((0, 3)), "at least one"),
    ],
)
def test_samples_that_do_not_belong_together_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        Gradient(x, y, "mse")


def test_a_loss_that_is_not_finite_is_refused():
    criterion = Gradient(np.full((2, 6), np.nan), np.ones((2, 3)), "mse")
    with pytest.raises(ValueError, match="loss on the samples of `criterion` is nan"):
        prune_low_magnitude(mlp(), pruning.OneShot(0.5), criterion=criterion)


def test_a_weight_that_the_loss_does_not_depend_on_is_named():
    inputs = keras.Input((6,))
    outputs = [layers.Dense(3, name=name)(inputs) for name in ("used", "idle")]
    model = keras.Model(inputs, outputs)
    x, y = data()
    first = Gradient(x, y, lambda y, outputs: keras.ops.square(y - outputs[0]))
    with pytest.raises(ValueError, match="idle/kernel"):
        prune_low_magnitude(model, pruning.OneShot(0.5), criterion=first)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [("gradient", r"Gradient\(x, y, loss\)"), ("size", "'magnitude', 'movement'")],
)
def test_an_unknown_criterion_is_refused_with_what_there_is(criterion, message):
    with pytest.raises(ValueError, match=message):
        prune_low_magnitude(mlp(), criterion=criterion)


def _members(model):
    return model.kopt_pruning.members


def _masks_of(model):
    return [member.mask for member in _members(model)]
