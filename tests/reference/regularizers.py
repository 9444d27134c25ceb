"""The penalties of kopt.regularizers in float64, written from their definitions.

Each function bears the name of a class and takes weights and that class's
configuration.
"""

import itertools
import math

import numpy as np


def L1(weights, l1):
    return l1 * sum(abs(float(weight)) for weight in np.ravel(weights))


def L2(weights, l2):
    return l2 * sum(float(weight) ** 2 for weight in np.ravel(weights))


def L1L2(weights, l1, l2):
    return L1(weights, l1) + L2(weights, l2)


def GroupLasso(weights, factor, axis, scale_by_size):
    # An array is of no layer, so its groups are on its last axis.
    axis = -1 if axis is None else axis
    axes = [axis] if isinstance(axis, int) else list(axis)
    axes = [one + weights.ndim if one < 0 else one for one in axes]
    total = 0.0
    # A group: all weights with the same positions along the axes that number groups.
    for positions in itertools.product(*(range(weights.shape[one]) for one in axes)):
        where = [slice(None)] * weights.ndim
        for one, position in zip(axes, positions, strict=True):
            where[one] = position
        group = np.ravel(weights[tuple(where)])
        length = math.sqrt(sum(float(weight) ** 2 for weight in group))
        total += length * (math.sqrt(group.size) if scale_by_size else 1.0)
    return factor * total


def gradient(function, weights, step=1e-6):
    """Central differences of a function of float64 weights."""
    weights = np.array(weights, "float64")
    slopes = np.zeros(weights.size)
    for index in range(weights.size):
        values = []
        for sign in (1, -1):
            moved = weights.copy()
            moved.reshape(-1)[index] += sign * step
            values.append(function(moved))
        slopes[index] = (values[0] - values[1]) / (2 * step)
    return slopes.reshape(weights.shape)
