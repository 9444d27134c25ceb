"""What layers do for given masks, in float64, written from the papers."""

import numpy as np


def stochastic_depth(values, keep, rate, scale_by_keep):
    """Huang et al. 2016: a sample's branch is there or not."""
    result = np.zeros(values.shape)
    for sample, kept in enumerate(keep):
        if kept:
            result[sample] = values[sample]
            if scale_by_keep:
                result[sample] /= 1.0 - rate
    return result


def masked_dense(values, kernels, biases):
    """Wan et al. 2013: each sample is multiplied by weights of its own."""
    return np.stack(
        [
            np.asarray(value, "float64") @ kernel + bias
            for value, kernel, bias in zip(values, kernels, biases, strict=True)
        ]
    )
