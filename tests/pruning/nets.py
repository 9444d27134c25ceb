"""Small models and data that the pruning tests share."""

import keras
import numpy as np

from kopt import pruning

layers = keras.layers

SAMPLES, FEATURES, OUTPUTS = 48, 6, 3


def mlp(constraint=None):
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(16, activation="tanh", kernel_constraint=constraint),
            layers.Dense(OUTPUTS),
        ]
    )


def data():
    random = np.random.default_rng(5)
    x = random.normal(size=(SAMPLES, FEATURES)).astype("float32")
    y = np.cos(x @ random.normal(size=(FEATURES, OUTPUTS))).astype("float32")
    return x, y


def train(model, epochs=3, batch_size=8):
    """Train without shuffling, six steps an epoch."""
    x, y = data()
    model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model


def growing(final=0.5, end_step=9):
    """A schedule that prunes at steps 1, 3, 5 and so on."""
    return pruning.PolynomialDecay(0.2, final, 1, end_step, frequency=2)


def at_once(sparsity=0.5):
    """A schedule that prunes before training and keeps these masks."""
    return pruning.ConstantSparsity(sparsity, begin_step=1, end_step=1)


def pruned_mlp(**arguments):
    return pruning.prune_low_magnitude(mlp(), growing(), **arguments)


def sparsities(model):
    """The sparsity of each pruned weight."""
    report = pruning.sparsity_report(model)
    return [weight.sparsity for weight in report.weights if weight.pruned]


def steps(model):
    """The training step that each group of masks waits for."""
    return [int(group.step.numpy()) for group in model.kopt_pruning.groups]
