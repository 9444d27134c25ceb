"""Small models with channels to take out, and how to compare what is left of them."""

import keras
import numpy as np

from kopt.pruning import remove_filters

layers = keras.layers


def unlike(model, seed=0):
    """Give a model weights of which none is zero or one by default."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        values = random.normal(size=variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            values = 0.5 + random.random(variable.shape)
        elif len(variable.shape) > 1:
            values *= (2 / max(np.prod(variable.shape[:-1]), 1)) ** 0.5
        variable.assign(values)
    return model


def empty(model, names, places):
    """Make filters zero, with their biases, scales and offsets."""
    for name in names.split():
        layer = model.get_layer(name)
        for variable in layer.weights:
            if variable.name.startswith("moving"):
                continue
            values = variable.numpy()
            # A depthwise kernel has its channels next to last.
            kind = type(layer).__name__
            axis = -2 if "Depthwise" in kind and values.ndim > 1 else -1
            if kind.endswith("Transpose") and values.ndim > 1:
                axis = -2
            if variable.name == "depthwise_kernel":
                continue
            moved = np.moveaxis(values, axis, 0)
            moved[places] = 0
            variable.assign(values)
    return model


def batch(model, size=3):
    """Random inputs of a model."""
    random = np.random.default_rng(7)

    def of(tensor):
        shape = (size, *(5 if n is None else n for n in tensor.shape[1:]))
        if keras.backend.is_float_dtype(tensor.dtype):
            return random.normal(size=shape).astype("float32")
        return random.integers(0, 8, shape)

    if isinstance(model, keras.Sequential):
        return of(model.inputs[0])
    return keras.tree.map_structure(of, model.input)


def same_outputs(model, other, inputs=None):
    """Whether two models compute the same, to 1e-5 of the outputs' size."""
    inputs = batch(model) if inputs is None else inputs
    pairs = zip(
        keras.tree.flatten(model(inputs)),
        keras.tree.flatten(other(inputs)),
        strict=True,
    )
    for mine, theirs in pairs:
        mine, theirs = np.asarray(mine), np.asarray(theirs)
        assert np.ptp(mine) > 1e-3, "outputs that are all alike tell nothing"
        np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-5 * np.abs(mine).max())


def removed(model):
    """The model without what can go, after it was seen to compute the same."""
    smaller = remove_filters(model)
    same_outputs(model, smaller)
    return smaller


def widths(model, *names):
    """How many outputs layers have."""
    return [model.get_layer(name).output.shape[-1] for name in names]
