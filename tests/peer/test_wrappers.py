"""kopt's wrappers against schedulefree, optax and torch, in float64.

`epsilon` stands in another place in optax (and, in Mechanic, is part of a division that
kopt does not need): with 1e-30 the place does not matter.
"""

import keras
import numpy as np
import pytest

import kopt
from tests.conformance.test_wrappers import run
from tests.peer import steps
from tests.reference.optimizers import trajectory

pytestmark = pytest.mark.peer

RATE = steps.RATE
TINY = 1e-30


def own(make):
    """The weights to train at and to evaluate at, after the stream."""
    keras.backend.set_floatx("float64")
    return run(make(), *steps.stream(), "float64")


def compare(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert trajectory.distance(one, other) < 1e-10


def with_schedulefree(make):
    torch = pytest.importorskip("torch")
    weights, gradients = steps.stream()
    tensors = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    optimizer = make(tensors)
    optimizer.train()
    for gradient in gradients:
        for tensor, g in zip(tensors, gradient, strict=True):
            tensor.grad = torch.tensor(g)
        optimizer.step()
    training = [tensor.detach().numpy().copy() for tensor in tensors]
    optimizer.eval()
    return training, [tensor.detach().numpy() for tensor in tensors]


VARIANTS = [
    {},
    {"weight_decay": 0.2, "warmup_steps": 8, "r": 1.5, "weight_lr_power": 1.0},
]


@pytest.mark.parametrize("options", VARIANTS, ids=["plain", "all options"])
def test_the_authors_schedule_free_adamw_takes_the_same_steps(options):
    peer = pytest.importorskip("schedulefree.adamw_schedulefree_reference")
    arguments = {"betas": (0.8, 0.99), "eps": 1e-6, **options}
    wanted = with_schedulefree(
        lambda p: peer.AdamWScheduleFreeReference(p, lr=RATE, **arguments)
    )
    found = own(
        lambda: kopt.ScheduleFreeAdamW(
            RATE, beta_1=0.8, beta_2=0.99, epsilon=1e-6, **options
        )
    )
    compare(found, wanted)


@pytest.mark.parametrize("options", VARIANTS, ids=["plain", "all options"])
def test_the_authors_schedule_free_sgd_takes_the_same_steps(options):
    peer = pytest.importorskip("schedulefree.sgd_schedulefree_reference")
    wanted = with_schedulefree(
        lambda p: peer.SGDScheduleFreeReference(p, lr=RATE, momentum=0.8, **options)
    )
    found = own(lambda: kopt.ScheduleFreeSGD(RATE, momentum=0.8, **options))
    compare(found, wanted)


def test_the_authors_wrapper_takes_the_same_steps():
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("schedulefree.wrap_schedulefree_reference")
    wanted = with_schedulefree(
        lambda p: peer.ScheduleFreeWrapperReference(
            torch.optim.SGD(p, lr=RATE, momentum=0.5),
            momentum=0.7,
            weight_decay_at_y=0.3,
        )
    )
    found = own(
        lambda: kopt.ScheduleFree(
            kopt.SGD(RATE, momentum=0.5), momentum=0.7, weight_decay=0.3
        )
    )
    compare(found, wanted)


def with_optax(make, evaluated=lambda state, parameters: parameters):
    import jax
    import optax

    weights, gradients = steps.stream()
    with jax.enable_x64(True):
        optimizer, parameters = make(), [jax.numpy.asarray(w) for w in weights]
        state = optimizer.init(parameters)
        for gradient in gradients:
            gradient = [jax.numpy.asarray(g) for g in gradient]
            updates, state = optimizer.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        points = parameters, evaluated(state, parameters)
        points = [[np.asarray(values) for values in point] for point in points]
    assert points[0][0].dtype == np.float64
    return points


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_optax_takes_the_same_schedule_free_adamw_steps(decay):
    optax = pytest.importorskip("optax")
    wanted = with_optax(
        lambda: optax.contrib.schedule_free_adamw(
            RATE, b1=0.8, b2=0.99, eps=TINY, weight_decay=decay
        ),
        optax.contrib.schedule_free_eval_params,
    )
    found = own(
        lambda: kopt.ScheduleFreeAdamW(
            RATE, beta_1=0.8, beta_2=0.99, epsilon=TINY, weight_decay=decay or None
        )
    )
    compare(found, wanted)


def test_optax_takes_the_same_schedule_free_sgd_steps():
    optax = pytest.importorskip("optax")
    wanted = with_optax(
        lambda: optax.contrib.schedule_free_sgd(RATE, b1=0.8, weight_decay=0.2),
        optax.contrib.schedule_free_eval_params,
    )
    found = own(lambda: kopt.ScheduleFreeSGD(RATE, momentum=0.8, weight_decay=0.2))
    compare(found, wanted)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_optax_takes_the_same_mechanic_steps(decay):
    optax = pytest.importorskip("optax")
    arguments = {"weight_decay": decay, "s_init": 0.01, "num_betas": 4}
    wanted = with_optax(
        lambda: optax.contrib.mechanize(
            optax.adam(RATE, eps=TINY), eps=TINY, **arguments
        )
    )
    found = own(
        lambda: kopt.Mechanic(kopt.Adam(RATE, epsilon=TINY), epsilon=TINY, **arguments)
    )
    compare(found, wanted)


def test_optax_takes_the_same_lookahead_steps():
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    weights, gradients = steps.stream()
    with jax.enable_x64(True):
        optimizer = optax.lookahead(optax.adam(RATE, eps=TINY), 4, 0.3)
        start = [jax.numpy.asarray(w) for w in weights]
        parameters = optax.LookaheadParams.init_synced(start)
        state = optimizer.init(parameters)
        for gradient in gradients:
            gradient = [jax.numpy.asarray(g) for g in gradient]
            updates, state = optimizer.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        wanted = [
            [np.asarray(w) for w in p] for p in (parameters.fast, parameters.slow)
        ]
    found = own(
        lambda: kopt.Lookahead(
            kopt.Adam(RATE, epsilon=TINY), sync_period=4, slow_step_size=0.3
        )
    )
    compare(found, wanted)


@pytest.mark.parametrize("momentum", [None, 0.8])
def test_torch_keeps_the_same_average(momentum):
    torch = pytest.importorskip("torch")
    weights, gradients = steps.stream()
    tensors = torch.nn.ParameterList([torch.tensor(w) for w in weights])
    optimizer = torch.optim.SGD(tensors, lr=RATE, momentum=0.9)
    mean = torch.optim.swa_utils.get_ema_multi_avg_fn(momentum) if momentum else None
    averaged = torch.optim.swa_utils.AveragedModel(tensors, multi_avg_fn=mean)
    for gradient in gradients:
        for tensor, g in zip(tensors, gradient, strict=True):
            tensor.grad = torch.tensor(g)
        optimizer.step()
        averaged.update_parameters(tensors)
    wanted = [[p.detach().numpy() for p in m] for m in (tensors, averaged.module)]
    found = own(
        lambda: kopt.WeightAverage(kopt.SGD(RATE, momentum=0.9), momentum=momentum)
    )
    compare(found, wanted)
