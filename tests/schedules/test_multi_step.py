import numpy as np
import pytest

from kopt.schedules import MultiStep

STEPS = np.arange(130)


def test_the_value_is_lower_from_the_milestone_on():
    values = np.asarray(MultiStep(1.0, [50, 75], factor=0.5)(STEPS))
    assert (values[:50] == 1.0).all()
    assert (values[50:75] == 0.5).all()
    assert (values[75:] == 0.25).all()


def test_no_milestones_are_a_constant():
    assert set(np.asarray(MultiStep(0.5, [])(STEPS))) == {0.5}


def test_milestones_in_fractions_and_in_steps_bind_together():
    assert MultiStep(1.0, [10, 0.5, 0.75]).bind(1000).milestones == (10, 500, 750)


def test_milestones_stay_apart_in_a_short_run():
    assert MultiStep(1.0, [0.5, 0.6, 0.7]).bind(3).milestones == (2, 3, 4)


@pytest.mark.parametrize("milestones", [[10, 10], [20, 10], [0.5, 0.4]])
def test_milestones_have_to_increase(milestones):
    with pytest.raises(ValueError, match="`milestones` must increase"):
        MultiStep(1.0, milestones)


@pytest.mark.parametrize("milestones", [100, "50", None])
def test_milestones_are_a_list(milestones):
    with pytest.raises(TypeError, match="`milestones` must be a list of steps"):
        MultiStep(1.0, milestones)


def test_a_milestone_beyond_the_run_names_its_place():
    with pytest.raises(ValueError, match=r"`milestones\[1\]` must be .* at most 1"):
        MultiStep(1.0, [0.5, 1.5])


@pytest.mark.peer
def test_it_agrees_with_optax():
    optax = pytest.importorskip("optax")
    peer = optax.piecewise_constant_schedule(0.3, {20: 0.1, 60: 0.1})
    ours = MultiStep(0.3, [20, 60])(STEPS)
    np.testing.assert_allclose(ours, [float(peer(step)) for step in STEPS], rtol=1e-6)


@pytest.mark.peer
def test_it_agrees_with_torch(torch_rates):
    theirs = torch_rates(lambda lr: lambda o: lr.MultiStepLR(o, [20, 60], 0.3), 130)
    ours = MultiStep(1.0, [20, 60], factor=0.3)(STEPS)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
