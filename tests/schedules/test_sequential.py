import keras
import numpy as np
import pytest

from kopt.schedules import Cosine, Linear, MultiStep, Scale, Sequential, Warmup

STEPS = np.arange(130)


def values(schedule):
    return np.asarray(schedule(STEPS))


def test_each_schedule_starts_its_own_clock():
    down = Cosine(0.1, 40)
    ours = values(Sequential([0.3, down, 0.2], [10, 60]))
    assert (ours[:10] == np.float32(0.3)).all()
    np.testing.assert_array_equal(ours[10:60], values(down)[:50])
    assert (ours[60:] == np.float32(0.2)).all()


def test_fractions_inside_are_of_their_own_stretch():
    line = Linear(0.4, steps=1.0)
    bound = Sequential([line, Warmup(line, steps=0.5), line], [0.1, 50]).bind(100)
    assert bound.boundaries == (10, 50)
    first, second, third = bound.schedules
    assert (first.steps, third.steps) == (10, 50)
    assert (second.steps, second.schedule.steps) == (20, 20)
    assert bound.duration == 100


def test_it_knows_whether_its_parts_meet():
    up, down = Linear(0.0, 10, final=0.1), Linear(0.1, 20)
    assert Sequential([up, 0.1, down], [10, 30]).continuous
    assert not Sequential([up, 0.2, down], [10, 30]).continuous
    assert not Sequential([up, MultiStep(0.1, [5])], [10]).continuous
    assert not Scale(MultiStep(0.1, [5]), 2.0).continuous
    assert not Warmup(MultiStep(0.1, [5]), 3).continuous


def test_schedules_of_keras_take_their_turn():
    inner = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.5, 0.25])
    ours = values(Sequential([0.1, inner], [10]))
    assert (ours[10:16] == 0.5).all() and (ours[16:] == 0.25).all()
    scaled = Scale(inner, 2.0)
    assert (float(scaled(0)), float(scaled(6)), scaled.peak) == (1.0, 0.5, 1.0)
    assert Sequential([0.1, inner], [10]).duration is None


def test_there_is_a_boundary_between_each_two():
    with pytest.raises(ValueError, match="Received: 2 schedules, 0 boundaries"):
        Sequential([0.1, 0.2], [])
    with pytest.raises(ValueError, match="Received: 0 schedules"):
        Sequential([], [])
    with pytest.raises(ValueError, match="`boundaries` must increase"):
        Sequential([0.1, 0.2, 0.3], [20, 10])
    with pytest.raises(TypeError, match=r"`schedules\[1\]` must be a number"):
        Sequential([0.1, "cosine"], [10])


def test_a_scaled_schedule_is_so_many_times_the_schedule():
    schedule = Warmup(Cosine(0.1, 50), 10)
    np.testing.assert_allclose(
        values(Scale(schedule, 3.0)), 3 * values(schedule), rtol=1e-6
    )
    assert (values(Scale(schedule, 0.0)) == 0).all()
    with pytest.raises(ValueError, match=r"`factor` must be .* at least 0"):
        Scale(schedule, -1.0)


@pytest.mark.peer
def test_it_agrees_with_optax(in_float64):
    optax = pytest.importorskip("optax")
    peer = optax.join_schedules(
        [
            optax.linear_schedule(0.0, 0.1, 20),
            optax.constant_schedule(0.1),
            optax.cosine_decay_schedule(0.1, 50),
        ],
        [20, 60],
    )
    ours = Sequential([Linear(0.0, 20, 0.1), 0.1, Cosine(0.1, 50)], [20, 60])
    theirs = [float(peer(step)) for step in STEPS]
    np.testing.assert_allclose(values(ours), theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.peer
def test_it_agrees_with_torch(torch_rates):
    def make(lr):
        return lambda optimizer: lr.SequentialLR(
            optimizer,
            [lr.ConstantLR(optimizer, 0.5, 1000), lr.CosineAnnealingLR(optimizer, 60)],
            milestones=[30],
        )

    ours = Sequential([0.5, Cosine(1.0, 60)], [30])
    theirs = torch_rates(make, 91)
    np.testing.assert_allclose(values(ours)[:91], theirs, rtol=1e-6, atol=1e-9)
