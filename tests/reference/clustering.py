"""Clustering as a table of all distances, in float64: slow, and plain to read."""

import numpy as np


def assignment(numbers, centroids):
    """The index of the nearest centroid of each number; of equals the first."""
    table = np.abs(np.subtract.outer(np.float64(numbers), np.float64(centroids)))
    return table.argmin(axis=-1)


def centroid_gradient(upstream, index, count, average):
    """The sum or the mean of the gradients of each centroid's numbers."""
    groups = [np.float64(upstream)[index == one] for one in range(count)]
    if average:
        return np.array([group.mean() if group.size else 0.0 for group in groups])
    return np.array([group.sum() for group in groups])


def density_based(numbers, count):
    """Where the numbers' distribution, on a grid of 30 points, exceeds even shares."""
    grid = np.linspace(numbers.min() - 0.01, numbers.max() + 0.01, 30)
    shares = [np.mean(numbers <= point) for point in grid]
    points = []
    for wanted in np.linspace(0.01, 1, count):
        above = [p for p, s in zip(grid, shares, strict=True) if s > wanted]
        points.append(above[0] if above else grid[-1])
    return np.array(points)
