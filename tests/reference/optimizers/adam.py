"""Adam in float64, from Kingma & Ba 2014 (end of section 2) and Reddi et al. 2018."""

import numpy as np

CASES = [
    {},
    {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
    {"amsgrad": True},
]


def update(
    w, g, state, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False
):
    m = beta_1 * state.get("momentum", 0.0) + (1 - beta_1) * g
    v = beta_2 * state.get("velocity", 0.0) + (1 - beta_2) * g**2
    new = {"momentum": m, "velocity": v}
    if amsgrad:
        v = new["velocity_max"] = np.maximum(state.get("velocity_max", 0.0), v)
    alpha = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return w - alpha * m / (np.sqrt(v) + epsilon), new
