"""Pruning by its definitions, in loops and float64."""

import math

import numpy as np


def keep_largest(scores, count):
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    mask = np.zeros(len(scores), bool)
    mask[order[:count]] = True
    return mask


def kept_count(size, sparsity):
    return max(round(size * (1 - sparsity)), 1)


def unstructured(kernel, sparsity):
    scores = np.abs(np.asarray(kernel, "float64")).ravel()
    mask = keep_largest(scores, kept_count(scores.size, sparsity))
    return mask.reshape(np.shape(kernel))


def blocks(matrix, block_size, pool, sparsity):
    """Blocks of a matrix of shape (inputs, outputs)."""
    height, width = block_size
    rows, columns = matrix.shape[0] // height, matrix.shape[1] // width
    scores = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            block = matrix[
                row * height : (row + 1) * height,
                column * width : (column + 1) * width,
            ]
            scores[row, column] = pool(np.abs(block))
    kept = unstructured(scores, sparsity)
    return np.kron(kept, np.ones(block_size)).astype(bool)


def m_of_n(matrix, zeros, group):
    """Groups along the inputs of a matrix of shape (inputs, outputs)."""
    inputs, outputs = matrix.shape
    mask = np.ones(matrix.shape, bool)
    for output in range(outputs):
        for start in range(0, inputs, group):
            places = range(start, min(start + group, inputs))
            missing = group - len(places)
            smallest_first = sorted(
                places, key=lambda place: (abs(matrix[place, output]), -place)
            )
            for place in smallest_first[: max(zeros - missing, 0)]:
                mask[place, output] = False
    return mask


def movement(weights, gradient, rate, steps, renewals, sparsity):
    """Hard movement pruning of Sanh et al., 2020, with plain gradient descent.

    The forward pass sees the weights times the mask of the highest scores; weights and
    scores move by the gradient that comes through it (straight-through):

        W = W - rate g,    S = S - W g
    """
    weights = np.array(weights, "float64")
    scores, mask = np.zeros_like(weights), np.ones_like(weights, bool)
    for step in range(steps):
        slope = gradient(weights * mask, step)
        scores = scores - weights * slope
        weights = weights - rate * slope
        # The masks of the step that comes next, which is number step + 2 from 1.
        if step + 2 in renewals:
            count = kept_count(scores.size, sparsity(step + 2))
            mask = keep_largest(scores.ravel(), count).reshape(scores.shape)
    return weights, scores, mask


def polynomial(step, initial, final, begin, end, power):
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** power


def cosine(step, initial, final, begin, end):
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final + (initial - final) * (1 + math.cos(math.pi * progress)) / 2


def is_due(step, begin, end, frequency):
    in_range = begin <= step and (end == -1 or step <= end)
    return in_range and (step - begin) % frequency == 0
