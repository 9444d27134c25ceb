"""The penalties of kopt.regularizers in float64, written from their definitions.

Each function bears the name of a class and takes weights and that class's
configuration.
"""

import itertools
import math

import numpy as np
import scipy


def L1(weights, l1, proximal=False):
    # Whether the optimizer applies it does not change what it is.
    return l1 * sum(abs(float(weight)) for weight in np.ravel(weights))


def L2(weights, l2):
    return l2 * sum(float(weight) ** 2 for weight in np.ravel(weights))


def L1L2(weights, l1, l2):
    return L1(weights, l1) + L2(weights, l2)


def _groups(weights, axis):
    """Groups: all weights with the same positions along the axes that number them."""
    # An array is of no layer, so its groups are on its last axis.
    axis = -1 if axis is None else axis
    axes = [axis] if isinstance(axis, int) else list(axis)
    axes = [one + weights.ndim if one < 0 else one for one in axes]
    for positions in itertools.product(*(range(weights.shape[one]) for one in axes)):
        where = [slice(None)] * weights.ndim
        for one, position in zip(axes, positions, strict=True):
            where[one] = position
        yield np.ravel(weights[tuple(where)])


def _length(group):
    return math.sqrt(sum(float(weight) ** 2 for weight in group))


def GroupLasso(weights, factor, axis, scale_by_size, proximal=False):
    total = 0.0
    for group in _groups(weights, axis):
        total += _length(group) * (math.sqrt(group.size) if scale_by_size else 1.0)
    return factor * total


def SparseGroupLasso(weights, factor, axis, l1_ratio, scale_by_size, proximal=False):
    grouped = GroupLasso(weights, 1 - l1_ratio, axis, scale_by_size)
    return factor * (grouped + L1(weights, l1_ratio))


def HoyerSquare(weights, factor, axis, by_group):
    if by_group:
        sizes = [_length(group) for group in _groups(weights, axis)]
    else:
        sizes = [abs(float(weight)) for weight in np.ravel(weights)]
    square = sum(size**2 for size in sizes)
    return factor * sum(sizes) ** 2 / square if square else 0.0


def KURE(weights, factor, target):
    flat = np.ravel(weights)
    if np.ptp(flat) == 0:
        return 0.0
    return factor * (scipy.stats.kurtosis(flat, fisher=False) - target) ** 2


def _matrix(weights):
    """A column for each output, or a row where there are more of these."""
    matrix = weights.reshape(-1, weights.shape[-1])
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T


def SoftOrthogonal(weights, factor):
    squares = np.linalg.svd(_matrix(weights), compute_uv=False) ** 2
    return factor * sum((square - 1) ** 2 for square in squares)


def _start(size):
    vector = np.random.default_rng(0).normal(size=size)
    return vector / np.linalg.norm(vector)


def SRIP(weights, factor, iterations):
    matrix = _matrix(weights)
    if iterations is None:
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        return factor * max(abs(square - 1) for square in squares)
    excess = matrix.T @ matrix - np.eye(matrix.shape[1])
    vector = _start(matrix.shape[1])
    for _ in range(iterations):
        vector = excess @ vector
    return factor * np.linalg.norm(excess @ vector) / np.linalg.norm(vector)


def SpectralNorm(weights, factor, iterations):
    matrix = _matrix(weights)
    if iterations is None or not matrix.any():
        return factor * np.linalg.svd(matrix, compute_uv=False)[0] ** 2
    vector = _start(matrix.shape[1])
    for _ in range(iterations):
        vector = matrix.T @ matrix @ vector
    return factor * (np.linalg.norm(matrix @ vector) / np.linalg.norm(vector)) ** 2


def NuclearNorm(weights, factor):
    return factor * sum(np.linalg.svd(_matrix(weights), compute_uv=False))


def TotalVariation(weights, factor, axis):
    if axis is None:
        axis = range(weights.ndim - 2)
    total = 0.0
    for one in [axis] if isinstance(axis, int) else axis:
        rows = np.moveaxis(weights, one, 0)
        for before, after in itertools.pairwise(rows):
            total += np.abs(after - before).sum()
    return factor * total


def DeCov(activations, factor):
    covariance = np.cov(_samples(activations), rowvar=False, ddof=0)
    units = len(covariance)
    pairs = [(i, j) for i in range(units) for j in range(i)]
    return factor * sum(covariance[pair] ** 2 for pair in pairs)


def KLSparsity(activations, factor, rho):
    means = np.clip(_samples(activations).mean(0), 2**-20, 1 - 2**-20)
    coin = [rho, 1 - rho]
    return factor * sum(scipy.stats.entropy(coin, [m, 1 - m]) for m in means)


def ConfidencePenalty(activations, factor, from_logits):
    rows = _samples(activations)
    if from_logits:
        rows = scipy.special.softmax(rows, axis=-1)
    # `entr` is -p log(p), 0 where p is 0.
    return -factor * scipy.special.entr(rows).sum(-1).mean()


def _samples(activations):
    return activations.reshape(-1, activations.shape[-1])


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
