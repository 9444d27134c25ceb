"""RMSprop in float64, from Hinton's lecture 6e and Graves 2013, equations 38 to 41."""

import numpy as np

CASES = [
    {},
    {"rho": 0.8, "momentum": 0.9, "epsilon": 1e-4},
    {"centered": True},
]


def update(
    w,
    g,
    state,
    t,
    learning_rate,
    rho=0.9,
    momentum=0.0,
    epsilon=1e-7,
    centered=False,
):
    n = rho * state.get("velocity", 0.0) + (1 - rho) * g**2
    new = {"velocity": n}
    if centered:
        mean = rho * state.get("average_gradient", 0.0) + (1 - rho) * g
        new["average_gradient"] = mean
        n = n - mean**2
    delta = learning_rate * g / np.sqrt(n + epsilon)
    if momentum:
        delta = new["momentum"] = momentum * state.get("momentum", 0.0) + delta
    return w - delta, new
