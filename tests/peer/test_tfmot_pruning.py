"""Pruning a Keras 3 model does what TensorFlow Model Optimization does to its twin."""

import inspect
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt import pruning
from tests.peer.tfmot import tf_keras, tfmot

pytestmark = [pytest.mark.peer, pytest.mark.slow]

STEPS = 100
BATCH = 8
SCHEDULES = {
    "constant": ("ConstantSparsity", dict(target_sparsity=0.6, begin_step=20)),
    "polynomial": (
        "PolynomialDecay",
        dict(initial_sparsity=0.1, final_sparsity=0.85, begin_step=5, end_step=75),
    ),
}
PATTERNS = {
    "single weights": {},
    "blocks": dict(block_size=(4, 1)),
    "square blocks by maximum": dict(block_size=(2, 2), block_pooling_type="MAX"),
    "2 of 4": dict(sparsity_m_by_n=(2, 4)),
}


def dense_net(library):
    layers = library.layers
    return library.Sequential(
        [
            library.Input((16,)),
            layers.Dense(24, activation="tanh"),
            layers.Dense(8),
        ]
    )


def convolutional_net(library):
    layers = library.layers
    return library.Sequential(
        [
            library.Input((16,)),
            layers.Reshape((2, 2, 4)),
            layers.Conv2D(8, 2, padding="same", activation="tanh"),
            layers.Flatten(),
            layers.Dense(8),
        ]
    )


def data(steps):
    random = np.random.default_rng(3)
    x = random.normal(size=(steps * BATCH, 16)).astype("float32")
    y = np.sin(x @ random.normal(size=(16, 8))).astype("float32")
    return x, y


def twins(net):
    keras.utils.set_random_seed(11)
    ours, theirs = net(keras), net(tf_keras())
    theirs.set_weights(ours.get_weights())
    return ours, theirs


def train_ours(model, optimizer, steps, **compile_arguments):
    model.compile(optimizer, "mse", **compile_arguments)
    x, y = data(steps)
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)


def train_theirs(model, optimizer, steps):
    model.compile(optimizer, "mse")
    x, y = data(steps)
    model.fit(
        x,
        y,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[tfmot().sparsity.keras.UpdatePruningStep()],
    )


def pruned_by_both(net, schedule, pattern):
    ours, theirs = twins(net)
    name, arguments = SCHEDULES[schedule]
    arguments = dict(arguments, frequency=10)
    pruning.prune_low_magnitude(ours, getattr(pruning, name)(**arguments), **pattern)
    theirs = tfmot().sparsity.keras.prune_low_magnitude(
        theirs, getattr(tfmot().sparsity.keras, name)(**arguments), **pattern
    )
    return ours, theirs


def largest_difference(ours, theirs):
    plain = tfmot().sparsity.keras.strip_pruning(theirs)
    pairs = zip(ours.get_weights(), plain.get_weights(), strict=True)
    return max(np.abs(mine - other).max() for mine, other in pairs)


def masks_of(theirs):
    return [
        mask.numpy().astype(bool)
        for layer in theirs.layers
        for _, mask, _ in getattr(layer, "pruning_vars", [])
    ]


def kernels(model):
    return [w for w in model.get_weights() if w.ndim > 1]


CASES = [
    (net, schedule, pattern)
    for pattern in PATTERNS
    for schedule in SCHEDULES
    for net in (dense_net, convolutional_net)
    # TensorFlow Model Optimization has blocks for matrices alone, and does not ask
    # the schedule about m of n.
    if not ("blocks" in pattern and net is convolutional_net)
    and not ("of" in pattern and schedule == "polynomial")
]


@pytest.mark.parametrize(("net", "schedule", "pattern"), CASES)
def test_masks_and_weights_equal_after_100_steps(net, schedule, pattern):
    ours, theirs = pruned_by_both(net, schedule, PATTERNS[pattern])
    train_ours(ours, keras.optimizers.Adam(0.01), STEPS)
    train_theirs(theirs, tf_keras().optimizers.Adam(0.01), STEPS)
    for mine, mask in zip(kernels(ours), masks_of(theirs), strict=True):
        np.testing.assert_array_equal(mine != 0, mask)
    assert largest_difference(ours, theirs) == 0.0


def test_xla_gives_the_same_masks_and_the_weights_to_a_millionth():
    ours, theirs = pruned_by_both(dense_net, "polynomial", {})
    train_ours(ours, keras.optimizers.Adam(0.01), STEPS, jit_compile=True)
    train_theirs(theirs, tf_keras().optimizers.Adam(0.01), STEPS)
    for mine, mask in zip(kernels(ours), masks_of(theirs), strict=True):
        np.testing.assert_array_equal(mine != 0, mask)
    assert largest_difference(ours, theirs) <= 1e-6


def test_a_second_fit_goes_on_with_the_schedule_as_theirs_does():
    ours, theirs = pruned_by_both(dense_net, "polynomial", {})
    # Between the fits no mask is renewed. There theirs is chosen from what is left of
    # the old one, ours has been chosen from all weights when the last step ended.
    for _ in range(2):
        train_ours(ours, keras.optimizers.SGD(0.5), 30)
        train_theirs(theirs, tf_keras().optimizers.SGD(0.5), 30)
    assert largest_difference(ours, theirs) == 0.0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ConstantSparsity", dict(target_sparsity=0.37, begin_step=0)),
        ("ConstantSparsity", dict(target_sparsity=0.9, begin_step=3, end_step=31)),
        ("PolynomialDecay", dict(initial_sparsity=0.0, final_sparsity=0.8)),
        ("PolynomialDecay", dict(initial_sparsity=0.9, final_sparsity=0.3, power=1)),
        ("PolynomialDecay", dict(initial_sparsity=0.2, final_sparsity=0.7, power=0.5)),
    ],
)
@pytest.mark.parametrize("frequency", [1, 7])
def test_schedules_are_the_same_to_the_bit(name, arguments, frequency):
    if name == "PolynomialDecay":
        arguments = dict(arguments, begin_step=5, end_step=61)
    ours = getattr(pruning, name)(**arguments, frequency=frequency)
    theirs = getattr(tfmot().sparsity.keras, name)(**arguments, frequency=frequency)
    for step in range(80):
        step = tf.constant(step, tf.int64)
        assert bool(ours(step)[0]) == bool(theirs(step)[0])
        assert float(ours(step)[1]) == float(theirs(step)[1])


def test_defaults_of_the_schedules_are_theirs():
    for name, _ in SCHEDULES.values():
        parameters = inspect.signature(getattr(pruning, name)).parameters
        other = inspect.signature(getattr(tfmot().sparsity.keras, name)).parameters
        assert set(parameters) == set(other)
        for key, parameter in parameters.items():
            assert parameter.default == other[key].default


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_their_schedules_are_taken_and_saved_as_ours(schedule, tmp_path):
    name, arguments = SCHEDULES[schedule]
    theirs = getattr(tfmot().sparsity.keras, name)(**arguments)
    model = pruning.prune_low_magnitude(dense_net(keras), theirs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    saved = loaded.kopt_pruning.groups[0].schedule
    assert type(saved) is getattr(pruning, name)
    assert saved.get_config() == getattr(pruning, name)(**arguments).get_config()


def test_a_schedule_derived_from_theirs_is_asked():
    class Stepwise(tfmot().sparsity.keras.PruningSchedule):
        def __call__(self, step):
            due = self._should_prune_in_step(step, 1, -1, 1)
            return due, tf.where(step < 10, 0.25, 0.75)

        def get_config(self):
            return {}

    model = pruning.prune_low_magnitude(dense_net(keras), Stepwise())
    assert pruning.sparsity_report(model).sparsity == 0.25
    train_ours(model, "sgd", 12)
    assert pruning.sparsity_report(model).sparsity == 0.75


def test_a_policy_that_knows_only_the_older_keras_is_refused():
    policy = tfmot().sparsity.keras.PruningPolicy

    class Dense(policy):
        def allow_pruning(self, layer):
            return isinstance(layer, tf_keras().layers.Dense)

        def ensure_model_supports_pruning(self, model):
            pass

    with pytest.raises(ValueError, match="layers of tf_keras"):
        pruning.prune_low_magnitude(dense_net(keras), pruning_policy=Dense())


def test_their_model_is_refused_with_what_to_do():
    with pytest.raises(TypeError, match="older tf_keras"):
        pruning.prune_low_magnitude(dense_net(tf_keras()))


def test_importing_them_for_a_test_leaves_the_environment_alone():
    tfmot()
    assert "TF_USE_LEGACY_KERAS" not in os.environ
