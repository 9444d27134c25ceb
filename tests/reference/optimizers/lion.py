"""Lion in float64, from Chen et al. 2023, program 1."""

import numpy as np

CASES = [{}, {"beta_1": 0.95, "beta_2": 0.98}, {"beta_2": 0.0}]


def update(w, g, state, t, learning_rate, beta_1=0.9, beta_2=0.99):
    m = state.get("momentum", 0.0)
    direction = np.sign(beta_1 * m + (1 - beta_1) * g)
    return w - learning_rate * direction, {"momentum": beta_2 * m + (1 - beta_2) * g}
