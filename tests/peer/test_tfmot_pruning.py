"""Pruning a Keras 3 model does what TensorFlow Model Optimization does to its twin."""

import keras
import numpy as np
import pytest

from kopt import pruning
from tests.peer.tfmot import tf_keras, tfmot

pytestmark = pytest.mark.peer

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
