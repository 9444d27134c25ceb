"""NAdamW in float64: Nadam from Dozat 2016, algorithm 2 and section 3.

The decay is the loop's, outside the moments, as in Loshchilov & Hutter 2017.
"""

import numpy as np

CASES = [
    {"weight_decay": 0.004},
    {
        "weight_decay": 0.1,
        "beta_1": 0.8,
        "beta_2": 0.95,
        "epsilon": 1e-3,
        "momentum_decay": 0.5,
    },
    {"weight_decay": 0.02, "momentum_decay": None},
]
INERT = {"momentum_decay": "25 updates are too few: its time is 250 updates long"}


def momentum(step, beta_1, momentum_decay):
    if momentum_decay is None:
        return beta_1
    return beta_1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))


def shared(
    shared, w, g, states, t, rate, beta_1=0.9, momentum_decay=0.004, **arguments
):
    """The product of all momenta so far."""
    before = shared.get("product", 1.0)
    return {"product": before * momentum(t, beta_1, momentum_decay)}


def update(
    w,
    g,
    state,
    t,
    learning_rate,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-7,
    momentum_decay=0.004,
    shared=None,
):
    m = beta_1 * state.get("momentum", 0.0) + (1 - beta_1) * g
    n = beta_2 * state.get("velocity", 0.0) + (1 - beta_2) * g**2
    so_far = shared["product"]
    following = momentum(t + 1, beta_1, momentum_decay)
    m_hat = following * m / (1 - so_far * following)
    m_hat = m_hat + (1 - momentum(t, beta_1, momentum_decay)) * g / (1 - so_far)
    n_hat = n / (1 - beta_2**t)
    moved = learning_rate * m_hat / (np.sqrt(n_hat) + epsilon)
    return w - moved, {"momentum": m, "velocity": n}
