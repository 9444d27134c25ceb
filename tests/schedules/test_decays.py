"""The decays over one stretch: Linear, Polynomial, REX, Exponential, InverseTime."""

import numpy as np
import pytest

from kopt.schedules import REX, Constant, Exponential, InverseTime, Linear, Polynomial

STEPS = np.arange(130)


def values(schedule, steps=STEPS):
    return np.asarray(schedule(steps))


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


DECAYS = [
    lambda steps: Linear(0.3, steps, final=0.1),
    lambda steps: Polynomial(0.3, steps, 0.9, final=0.1),
    lambda steps: REX(0.3, steps, final=0.1),
]


@pytest.mark.parametrize("decay", DECAYS)
def test_it_begins_and_ends_at_its_ends_and_falls_all_the_way(decay):
    ours = values(decay(100))
    assert ours[0] == np.float32(0.3)
    assert (ours[100:] == np.float32(0.1)).all()
    assert (np.diff(ours[:101]) < 0).all()


@pytest.mark.parametrize("decay", [Linear, REX])
def test_the_end_is_precise_in_a_long_run(decay):
    ours = float(decay(1e-3, steps=1_000_000)(999_999))
    # The slope at the end, times one step: 1 for a line, 2 for r / (1/2 + r/2).
    slope = {Linear: 1.0, REX: 2.0}[decay]
    np.testing.assert_allclose(ours, slope * 1e-9, rtol=1e-5)


def test_a_rising_line_is_as_precise_at_its_start():
    ours = float(Linear(0.0, steps=1_000_000, final=1.0)(1))
    np.testing.assert_allclose(ours, 1e-6, rtol=1e-6)


def test_rex_lies_above_the_line_and_a_power_above_one_below_it():
    line = values(Linear(1.0, 100))[1:100]
    assert (values(REX(1.0, 100))[1:100] > line).all()
    assert (values(Polynomial(1.0, 100, power=1.1))[1:100] < line).all()
    np.testing.assert_array_equal(values(Polynomial(1.0, 100, power=1.0))[1:100], line)


def test_an_exponential_falls_by_the_same_factor_and_stops_at_its_minimum():
    ours = values(Exponential(1.0, steps=10, rate=0.5, minimum=1e-3))
    np.testing.assert_allclose(ours[10:90] / ours[:80], 0.5, rtol=1e-5)
    assert (ours[100:] == np.float32(1e-3)).all() and ours[99] > 1e-3


@pytest.mark.parametrize("decay", [Exponential, InverseTime])
@pytest.mark.parametrize("steps", [3, 7, 49])
def test_each_step_of_a_staircase_begins_where_it_should_and_not_one_later(
    decay, steps
):
    schedule = decay(1.0, steps=steps, rate=0.9, staircase=True)
    many = np.arange(20_000)
    ours = values(schedule, many[: 40 * steps])
    changes = np.flatnonzero(np.diff(ours)) + 1
    np.testing.assert_array_equal(changes, steps * np.arange(1, 40))


def test_a_constant_is_what_it_is():
    assert set(values(Constant(0.25))) == {0.25}


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Constant(-1.0), "`value` must be"),
        (lambda: Linear(-1.0, 10), "`initial` must be"),
        (lambda: Polynomial(1.0, 10, power=0.0), "`power` must be .* greater than 0"),
        (lambda: REX(1.0, 1.5), r"`steps` must be .*fraction of the run"),
        (lambda: Exponential(1.0, 10, rate=1.0), "`rate` must be .* less than 1"),
        (lambda: Exponential(0.1, 10, 0.5, minimum=0.2), "`minimum` must be"),
        (lambda: InverseTime(1.0, 10, rate=0.0), "`rate` must be"),
    ],
)
def test_wrong_arguments_are_refused_at_once(make, match):
    with pytest.raises(ValueError, match=match):
        make()


OPTAX = {
    "linear": (
        lambda o: o.linear_schedule(0.3, 0.1, 100),
        Linear(0.3, 100, final=0.1),
    ),
    "polynomial": (
        lambda o: o.polynomial_schedule(0.3, 0.1, 1.7, 100),
        Polynomial(0.3, 100, 1.7, final=0.1),
    ),
    "exponential": (
        lambda o: o.exponential_decay(0.3, 10, 0.7, end_value=0.02),
        Exponential(0.3, 10, 0.7, minimum=0.02),
    ),
    "staircase": (
        lambda o: o.exponential_decay(0.3, 10, 0.7, staircase=True),
        Exponential(0.3, 10, 0.7, staircase=True),
    ),
    "constant": (lambda o: o.constant_schedule(0.3), Constant(0.3)),
}


@pytest.mark.peer
@pytest.mark.parametrize("name", OPTAX)
def test_it_agrees_with_optax(name, in_float64):
    make, ours = OPTAX[name]
    peer = make(pytest.importorskip("optax"))
    assert_close(values(ours), [float(peer(step)) for step in STEPS])


@pytest.mark.peer
def test_it_agrees_with_torch(torch_rates):
    def linear(lr):
        return lambda optimizer: lr.LinearLR(optimizer, 1.0, 0.2, total_iters=100)

    def polynomial(lr):
        return lambda optimizer: lr.PolynomialLR(optimizer, 100, power=0.9)

    def exponential(lr):
        return lambda optimizer: lr.ExponentialLR(optimizer, 0.97)

    assert_close(values(Linear(0.5, 100, final=0.1)), torch_rates(linear, 130, 0.5))
    assert_close(values(Polynomial(0.5, 100, 0.9)), torch_rates(polynomial, 130, 0.5))
    assert_close(values(Exponential(0.5, 1, 0.97)), torch_rates(exponential, 130, 0.5))


@pytest.mark.peer
def test_rex_agrees_with_pytorch_optimizer():
    torch = pytest.importorskip("torch")
    peers = pytest.importorskip("pytorch_optimizer")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    peer = peers.REXScheduler(optimizer, 100, max_lr=0.5, min_lr=0.1)
    # Making it takes a step of its own, and so does each call.
    peer.step_t = 0
    assert_close(values(REX(0.5, 100, final=0.1)), [peer.step() for _ in STEPS])


@pytest.mark.peer
@pytest.mark.parametrize("staircase", [False, True])
def test_inverse_time_agrees_with_keras(staircase):
    import keras

    peer = keras.optimizers.schedules.InverseTimeDecay(0.3, 10, 0.7, staircase)
    ours = values(InverseTime(0.3, 10, 0.7, staircase=staircase))
    assert_close(ours, [float(peer(step)) for step in STEPS])
