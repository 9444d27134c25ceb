"""SOAP in float64, from Vyas et al. 2024, algorithm 3, written for any rank.

The basis is turned as the authors do it: sorted by its Rayleigh quotients, one step of
power iteration, QR.
"""

import numpy as np

CASES = [
    {"weight_decay": 0.01, "precondition_frequency": 4},
    {"beta_1": 0.9, "shampoo_beta": 0.8, "max_precondition_dim": 4},
]
# No axis is longer than the others together: the eigenvectors of 0 would be arbitrary.
SHAPES = [(), (7,), (5, 5), (3, 3, 4, 6), (2,)]
# Eigenvectors in float32 are exact to the rounding over the gap between eigenvalues;
# where a first gradient is of low rank, rounding alone chooses some of them.
TOLERANCE = 2e-6
NOISE = 4e-3
INERT = {"epsilon": "1e-8, and the second moments are near 1"}


def along(tensor, matrix, axis):
    return np.moveaxis(np.tensordot(tensor, matrix, axes=[[axis], [0]]), -1, axis)


def update(
    w,
    g,
    state,
    t,
    learning_rate,
    beta_1=0.95,
    beta_2=0.95,
    shampoo_beta=None,
    epsilon=1e-8,
    precondition_frequency=10,
    max_precondition_dim=10_000,
):
    shampoo_beta = beta_2 if shampoo_beta is None else shampoo_beta
    axes = [
        a for a, n in enumerate(w.shape) if w.ndim > 1 and n <= max_precondition_dim
    ]
    state = dict(state) or {"momentum": np.zeros_like(w), "velocity": np.zeros_like(w)}
    if not axes or t > 1:
        turned = g
        for a in axes:
            turned = along(turned, state[f"basis_{a}"], a)
        state["momentum"] = beta_1 * state["momentum"] + (1 - beta_1) * g
        state["velocity"] = beta_2 * state["velocity"] + (1 - beta_2) * turned**2
        count = t - 1 if axes else t
        m = state["momentum"] / (1 - beta_1**count)
        root = np.sqrt(1 - beta_2**count)
        for a in axes:
            m = along(m, state[f"basis_{a}"], a)
        step = m / ((np.sqrt(state["velocity"]) + epsilon) / root)
        for a in axes:
            step = along(step, state[f"basis_{a}"].T, a)
        w = w - learning_rate * step
    for a in axes:
        others = [b for b in range(w.ndim) if b != a]
        outer = np.tensordot(g, g, axes=[others, others])
        p = state.get(f"preconditioner_{a}", np.zeros_like(outer))
        state[f"preconditioner_{a}"] = shampoo_beta * p + (1 - shampoo_beta) * outer
        p = state[f"preconditioner_{a}"]
        if t == 1:
            state[f"basis_{a}"] = np.linalg.eigh(p)[1][:, ::-1]
        elif (t - 1) % precondition_frequency == 0:
            q = state[f"basis_{a}"]
            order = np.argsort(-np.einsum("ij,ik,kj->j", q, p, q), kind="stable")
            state["velocity"] = np.take(state["velocity"], order, axis=a)
            state[f"basis_{a}"] = np.linalg.qr(p @ q[:, order])[0]
    return w, state
