"""Adam's `beta_1` on the move, beside torch and optax, which move theirs too.

All of them correct the bias by a power of the present value, and Nadam by the product
of all values.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt import _registry
from tests.peer.steps import RATE, stream

pytestmark = pytest.mark.peer
TINY = 1e-24
AMS = {"amsgrad": True}


def cycle(steps):
    """The momenta of torch's one-cycle policy."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 0.1)
    policy = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    momenta = []
    for _ in range(steps):
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        policy.step()
    assert momenta[0] == 0.95 and min(momenta) == pytest.approx(0.85, 1e-3)
    return momenta


def rising(steps):
    """From nothing on: the correction differs most from that of the last value."""
    return list(np.linspace(0.0, 0.9, steps))


PATHS = {"cycle": cycle, "rising": rising}
each_path = pytest.mark.parametrize("path", PATHS)


def with_kopt(name, path, **arguments):
    keras.backend.set_floatx("float64")
    weights, gradients = stream()
    variables = [keras.Variable(w, dtype="float64") for w in weights]
    optimizer = _registry.get("optimizers", name, learning_rate=RATE, **arguments)
    optimizer.build(variables)
    beta_1 = optimizer.let_move("beta_1")

    @tf.function
    def step(*gradients):
        optimizer.apply(list(gradients), variables)

    for gradient, value in zip(gradients, PATHS[path](len(gradients)), strict=True):
        beta_1.assign(value)
        step(*[tf.constant(g, "float64") for g in gradient])
    assert step.experimental_get_tracing_count() == 1
    return [variable.numpy() for variable in variables]


def with_torch(make, path, **arguments):
    import torch

    weights, gradients = stream()
    tensors = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    optimizer = make(tensors, lr=RATE, **arguments)
    for gradient, value in zip(gradients, PATHS[path](len(gradients)), strict=True):
        (group,) = optimizer.param_groups
        group["betas"] = (value, *group["betas"][1:])
        for tensor, g in zip(tensors, gradient, strict=True):
            tensor.grad = torch.tensor(g)
        optimizer.step()
    return [tensor.detach().numpy() for tensor in tensors]


def assert_same(found, expected, rtol=1e-9):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-12)


@each_path
@pytest.mark.parametrize(
    ("name", "twin", "arguments", "given"),
    [
        ("Adam", "Adam", {"epsilon": TINY}, {"eps": TINY}),
        ("Adam", "Adam", {"epsilon": TINY, **AMS}, {"eps": TINY, **AMS}),
        (
            "AdamW",
            "AdamW",
            {"epsilon": TINY, "weight_decay": 0.1},
            {"eps": TINY, "weight_decay": 0.1},
        ),
        ("NAdamW", "NAdam", {"weight_decay": None, "epsilon": 1e-6}, {"eps": 1e-6}),
        ("RAdam", "RAdam", {"epsilon": TINY}, {"eps": TINY}),
    ],
    ids=["Adam", "AMSGrad", "AdamW", "NAdam", "RAdam"],
)
def test_torch_takes_the_same_steps(path, name, twin, arguments, given):
    torch = pytest.importorskip("torch")
    expected = with_torch(getattr(torch.optim, twin), path, **given)
    found = with_kopt(name, path, **arguments)
    # torch keeps the product of its momenta in float32.
    assert_same(found, expected, rtol=1e-7 if twin == "NAdam" else 1e-9)


@each_path
def test_optax_takes_the_same_steps(path):
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    weights, gradients = stream()
    with jax.enable_x64(True):
        values = jax.numpy.asarray(PATHS[path](len(gradients)))
        optimizer = optax.inject_hyperparams(optax.adam)(
            RATE, b1=lambda count: values[count], eps=TINY
        )
        parameters = [jax.numpy.asarray(w) for w in weights]
        state = optimizer.init(parameters)
        for gradient in gradients:
            gradient = [jax.numpy.asarray(g) for g in gradient]
            updates, state = optimizer.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        expected = [np.asarray(parameter) for parameter in parameters]
    assert_same(with_kopt("Adam", path, epsilon=TINY), expected)
