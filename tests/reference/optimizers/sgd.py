"""Gradient descent in float64, from Polyak 1964 and Sutskever et al. 2013."""

CASES = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.8, "nesterov": True},
]


def update(w, g, state, t, learning_rate, momentum=0.0, nesterov=False):
    if momentum == 0:
        return w - learning_rate * g, {}
    # Sutskever et al., equations 1 to 4, with their theta at the look-ahead point.
    velocity = momentum * state.get("momentum", 0.0) - learning_rate * g
    moved = momentum * velocity - learning_rate * g if nesterov else velocity
    return w + moved, {"momentum": velocity}
