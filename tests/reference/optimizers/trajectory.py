"""Runs a reference over a fixed stream of gradients, in float64.

What surrounds a formula (clipping, decoupled decay, a schedule) is written here once,
from its definition, and independent of kopt.
"""

import importlib

import numpy as np

SHAPES = [(), (7,), (5, 3), (3, 3, 4, 6), (4, 2)]
STEPS = 25


def stream(seed=0, shapes=SHAPES, steps=STEPS):
    """First weights and gradients that change sign and size; the last are zero."""
    generator = np.random.default_rng(seed)
    weights = [generator.normal(size=shape) for shape in shapes]
    gradients = [
        [
            generator.normal(size=shape) * 10 ** generator.uniform(-2, 1)
            for shape in shapes
        ]
        for _ in range(steps)
    ]
    for step in gradients:
        step[-1] = np.zeros(shapes[-1])
    # The float32 twin of the stream is then the same stream.
    return rounded(weights), [rounded(step) for step in gradients]


def rounded(arrays):
    return [np.asarray(array, "float32").astype("float64") for array in arrays]


def module_of(name):
    """The reference of an optimizer: `CASES` and `update`."""
    return importlib.import_module(f"tests.reference.optimizers.{name.lower()}")


def run(
    name,
    weights,
    gradients,
    rates,
    *,
    weight_decay=0.0,
    global_clipnorm=None,
    moving=None,
    **arguments,
):
    """Weights and states after the whole stream, and the largest states on the way.

    `moving` has the values that an argument takes, one a step, by its name.

    A reference has `CASES` to run and `update(w, g, state, t, rate, **arguments)`. It
    may also have:

    - `DECAYS = True`: `update` takes `weight_decay` and applies it itself;
    - `shared(shared, weights, gradients, states, t, rate, **arguments)`: what all
      variables share in a step; `update` gets the dict that it returns as `shared`.
    """
    module = module_of(name)
    common = {}
    weights, states = list(weights), [{} for _ in weights]
    largest = [{} for _ in weights]
    for t, (step, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        present = {name: values[t - 1] for name, values in (moving or {}).items()}
        arguments = {**arguments, **present}
        if global_clipnorm is not None:
            length = np.sqrt(sum((g**2).sum() for g in step))
            step = [g * min(1.0, global_clipnorm / length) for g in step]
        if hasattr(module, "shared"):
            common = module.shared(
                common.get("shared", {}), weights, step, states, t, rate, **arguments
            )
            common = {"shared": common}
        decays = getattr(module, "DECAYS", False)
        own = {"weight_decay": weight_decay} if decays else {}
        for i, g in enumerate(step):
            decay = 0.0 if decays else rate * weight_decay * weights[i]
            weights[i], states[i] = module.update(
                weights[i], g, states[i], t, rate, **arguments, **own, **common
            )
            weights[i] = weights[i] - decay
            for slot, value in states[i].items():
                largest[i][slot] = _size(value, largest[i].get(slot, 0.0))
    return weights, states, largest


def distance(found, expected, start=None):
    """Largest difference, as a share of the largest value of each array.

    `start` are earlier values of the arrays: one that is just on its way through zero
    would make any difference look large.
    """
    start = start or expected
    differences = [
        np.max(np.abs(np.asarray(f, "float64") - e)) / _size(e, s)
        for f, e, s in zip(found, expected, start, strict=True)
    ]
    # Whatever is not a number is as far away as can be.
    return np.max(np.nan_to_num(differences, nan=np.inf))


def _size(*arrays):
    return max(1e-12, *(np.max(np.abs(array)) for array in arrays))
