import numpy as np
import pytest

from kopt.schedules import OneCycle

STEPS = np.arange(130)


def values(schedule):
    return np.asarray(schedule(STEPS))


def test_it_rises_to_the_peak_and_falls_below_its_start():
    ours = values(OneCycle(1.0, steps=100, rise=0.2))
    assert ours[20] == 1.0
    assert (np.diff(ours[:21]) > 0).all() and (np.diff(ours[20:101]) < 0).all()
    np.testing.assert_allclose(ours[[0, 100, 129]], [0.04, 4e-6, 4e-6], rtol=1e-6)


def test_three_phases_are_as_steep_down_as_up():
    ours = values(OneCycle(1.0, steps=100, rise=0.4, three_phases=True))
    np.testing.assert_allclose(ours[40:81], ours[:41][::-1], rtol=1e-5)
    np.testing.assert_allclose(ours[100], 0.04 / 1e4, rtol=1e-6)


def test_two_equal_phases_leave_no_room_for_a_third():
    ours = values(OneCycle(1.0, steps=100, rise=0.5, three_phases=True))
    np.testing.assert_allclose(ours[100:], 0.04 / 1e4, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`rise` must be .* at most 0\.5"):
        OneCycle(1.0, steps=100, rise=0.6, three_phases=True)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"maximum": 0.0}, "`maximum` must be"),
        ({"rise": 1.0}, "`rise` must be .* less than 1"),
        ({"initial_divisor": 0.5}, "`initial_divisor` must be .* at least 1"),
        ({"final_divisor": 0.5}, "`final_divisor` must be .* at least 1"),
        ({"kind": "cubic"}, "'cosine', 'linear'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, match):
    with pytest.raises(ValueError, match=match):
        OneCycle(**{"maximum": 0.1, "steps": 10, **arguments})


@pytest.mark.peer
def test_it_agrees_with_optax(in_float64):
    optax = pytest.importorskip("optax")
    peer = optax.cosine_onecycle_schedule(100, 0.1, 0.3, 25.0, 1e4)
    theirs = [float(peer(step)) for step in STEPS]
    np.testing.assert_allclose(values(OneCycle(0.1, 100)), theirs, rtol=1e-6)


@pytest.mark.peer
def test_three_straight_phases_agree_with_optax(in_float64):
    optax = pytest.importorskip("optax")
    peer = optax.linear_onecycle_schedule(100, 0.1, 0.4, 0.8, 25.0, 1e4)
    theirs = [float(peer(step)) for step in STEPS]
    ours = OneCycle(0.1, 100, rise=0.4, kind="linear", three_phases=True)
    np.testing.assert_allclose(values(ours), theirs, rtol=1e-6)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("three_phases", [False, True])
def test_it_agrees_with_torch(kind, three_phases, torch_rates):
    # torch counts the steps themselves, not the ways between them: its 101 end at 100,
    # and its first phase at 0.3 * 101 - 1.
    def make(lr):
        return lambda optimizer: lr.OneCycleLR(
            optimizer,
            max_lr=0.1,
            total_steps=101,
            pct_start=31 / 101,
            anneal_strategy={"cosine": "cos", "linear": "linear"}[kind],
            three_phase=three_phases,
        )

    theirs = torch_rates(make, 100)
    ours = OneCycle(0.1, 100, kind=kind, three_phases=three_phases)
    np.testing.assert_allclose(values(ours)[:100], theirs, rtol=1e-6)
