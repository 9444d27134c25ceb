"""A Gaussian process on ranked targets, in NumPy and SciPy.

Matern covariance of smoothness 5/2 with a length scale for each name (automatic
relevance determination), as in C. E. Rasmussen and C. K. I. Williams, "Gaussian
Processes for Machine Learning" (2006), chapters 4 and 5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize, special, stats

Array = np.ndarray

_ROOT_5 = np.sqrt(5.0)
# A priori a length scale is about a third of the range for one name, and longer for
# many, so that distances do not grow with their number; and the noise is small.
_LENGTH, _LENGTH_SPREAD = np.log(0.3), 1.0
_NOISE, _NOISE_SPREAD = np.log(1e-3), 1.5
# Never less, so that the covariance has an inverse.
_NOISE_BOUNDS = (np.log(1e-5), 0.0)


def normal_scores(targets: Array) -> Array:
    """Targets as the quantiles of a normal distribution that their ranks stand for.

    Ranks do not change under any increasing transform: neither a diverged trial nor a
    metric that saturates bends the model.
    """
    return stats.norm.ppf((stats.rankdata(targets) - 0.5) / len(targets))


class GaussianProcess(NamedTuple):
    """A process with its parameters, and what it has seen."""

    lengths: Array
    noise: float
    targets: Array
    factor: tuple[Array, bool]

    @classmethod
    def fitted(cls, apart: Array, targets: Array) -> GaussianProcess:
        """The process with the most probable parameters.

        Args:
            apart: Differences between the points seen, of shape `(names, n, n)`.
            targets: What was seen, of shape `(n,)`, with mean 0 and variance near 1.
        """
        names = len(apart)
        start = np.append(np.full(names, _length(names)), _NOISE)
        bounds = [(-4.0, 4.0)] * names + [_NOISE_BOUNDS]
        found = optimize.minimize(
            _loss,
            start,
            (apart, targets),
            "L-BFGS-B",
            jac=True,
            bounds=bounds,
            options={"maxiter": 40},
        ).x
        return cls.given(np.exp(found[:-1]), float(np.exp(found[-1])), apart, targets)

    @classmethod
    def given(
        cls, lengths: Array, noise: float, apart: Array, targets: Array
    ) -> GaussianProcess:
        """The process with these parameters."""
        covariance = matern(_radius_squared(apart, lengths))
        covariance[np.diag_indices_from(covariance)] += noise
        return cls(lengths, noise, targets, linalg.cho_factor(covariance, lower=True))

    def predict(self, apart: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, without the noise.

        Args:
            apart: Differences of the points seen from others, `(names, n, others)`.
        """
        between = matern(_radius_squared(apart, self.lengths))
        mean = between.T @ linalg.cho_solve(self.factor, self.targets)
        half = linalg.solve_triangular(self.factor[0], between, lower=True)
        return mean, np.sqrt(np.maximum(1.0 - (half**2).sum(axis=0), 1e-12))


def matern(radius_squared: Array) -> Array:
    """Matern covariance of smoothness 5/2 and variance 1."""
    scaled = _ROOT_5 * np.sqrt(radius_squared)
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Logarithm of the mean improvement below `best`, exact where it underflows too.

    S. Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian
    Optimization" (2023), arXiv:2310.20708.
    """
    score = (best - mean) / deviation
    density = -0.5 * score**2 - 0.5 * np.log(2 * np.pi)
    near = np.exp(density) + score * special.ndtr(score)
    # density * (1 + score * ndtr / density), by the scaled complementary error function
    far = np.minimum(score, -1.0)
    ratio = 1 + far * np.sqrt(np.pi / 2) * special.erfcx(-far / np.sqrt(2))
    below = density + np.log(np.maximum(ratio, 1e-300))
    log_gain = np.where(score > -1.0, np.log(np.maximum(near, 1e-300)), below)
    return log_gain + np.log(deviation)


def _length(names: int) -> float:
    return _LENGTH + 0.5 * np.log(names)


def _radius_squared(apart: Array, lengths: Array) -> Array:
    return np.tensordot(lengths**-2.0, apart, axes=1)


def _loss(parameters: Array, apart: Array, targets: Array) -> tuple[float, Array]:
    """Negative log posterior of the logarithms of lengths and noise, and its gradient.

    d K / d log l = 5/3 (1 + sqrt(5) r) exp(-sqrt(5) r) difference / l^2
    """
    lengths, noise = np.exp(parameters[:-1]), np.exp(parameters[-1])
    radius_squared = _radius_squared(apart, lengths)
    covariance = matern(radius_squared)
    covariance[np.diag_indices_from(covariance)] += noise
    factor = linalg.cho_factor(covariance, lower=True)
    inverse = linalg.cho_solve(factor, np.eye(len(targets)))
    weights = inverse @ targets
    loss = 0.5 * targets @ weights + np.log(np.diag(factor[0])).sum()
    slope = 0.5 * (inverse - np.outer(weights, weights))
    scaled = _ROOT_5 * np.sqrt(radius_squared)
    shared = slope * (5 / 3) * (1 + scaled) * np.exp(-scaled)
    of_lengths = np.tensordot(apart, shared, axes=2) * lengths**-2.0
    gradient = np.append(of_lengths, noise * np.trace(slope))
    centers = np.append(np.full(len(apart), _length(len(apart))), _NOISE)
    spreads = np.append(np.full(len(apart), _LENGTH_SPREAD), _NOISE_SPREAD)
    off = (parameters - centers) / spreads
    return loss + 0.5 * off @ off, gradient + off / spreads
