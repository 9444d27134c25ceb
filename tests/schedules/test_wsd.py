import numpy as np
import pytest

from kopt.schedules import WSD

STEPS = np.arange(130)


def values(schedule):
    return np.asarray(schedule(STEPS))


def test_it_warms_up_stays_and_decays():
    ours = values(WSD(1.0, steps=100, warmup=10, decay=20, final=0.1))
    np.testing.assert_allclose(ours[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert (ours[10:81] == 1.0).all()
    assert (np.diff(ours[80:101]) < 0).all()
    assert (ours[100:] == np.float32(0.1)).all()


@pytest.mark.parametrize(
    ("kind", "half"), [("1-sqrt", 1 - 0.5**0.5), ("linear", 0.5), ("cosine", 0.5)]
)
def test_the_ways_down_differ_in_their_middle(kind, half):
    schedule = WSD(1.0, steps=100, decay=20, kind=kind)
    np.testing.assert_allclose(float(schedule(90)), half, rtol=1e-6)


def test_the_end_of_a_long_decay_is_precise():
    schedule = WSD(1.0, steps=1_000_000, warmup=0, decay=1_000_000)
    # 1 - sqrt(1 - r) is r / 2 for small r.
    np.testing.assert_allclose(float(schedule(999_999)), 0.5e-6, rtol=1e-5)


def test_parts_are_steps_or_shares_of_all():
    shares = WSD(1.0, steps=1.0, warmup=0.1, decay=0.5).bind(100)
    np.testing.assert_array_equal(
        values(shares), values(WSD(1.0, 100, warmup=10, decay=50))
    )


@pytest.mark.parametrize(
    ("steps", "warmup", "decay"), [(1.0, 0.5, 0.6), (100, 90, 20), (100, 0.9, 20)]
)
def test_parts_longer_than_the_run_are_refused_at_once(steps, warmup, decay):
    with pytest.raises(ValueError, match="`warmup` and `decay` must not be longer"):
        WSD(1.0, steps, warmup=warmup, decay=decay)


def test_parts_in_steps_are_refused_once_the_run_is_known_to_be_too_short():
    schedule = WSD(1.0, steps=1.0, warmup=90, decay=20)
    assert schedule.bind(110).bound
    with pytest.raises(ValueError, match=r"warmup=90, decay=20, steps=100"):
        schedule.bind(100)


def test_a_decay_from_a_checkpoint_is_the_run_until_there():
    run = WSD(1.0, steps=100, warmup=0.1, decay=20, kind="linear", final=0.1)
    for step, steps in ((40, 10), (80, 20), (10, 5)):
        early = run.decay_from(step, steps)
        np.testing.assert_array_equal(values(early)[:step], values(run)[:step])
        assert (np.diff(values(early)[step : step + steps + 1]) < 0).all()
        assert (values(early)[step + steps :] == np.float32(0.1)).all()
        assert early.duration == step + steps
    assert repr(run.decay_from(80, 20)) == repr(
        WSD(1.0, 100, warmup=10, decay=20, kind="linear", final=0.1)
    )


@pytest.mark.parametrize("step", [9, 81, 100])
def test_only_the_stable_part_has_checkpoints_to_decay_from(step):
    run = WSD(1.0, steps=100, warmup=10, decay=20)
    with pytest.raises(ValueError, match="in the stable part, from 10 to 80"):
        run.decay_from(step, 5)


def test_the_run_of_a_checkpoint_has_a_known_length():
    with pytest.raises(ValueError, match=r"bind\(total_steps\)"):
        WSD(1.0, steps=1.0).decay_from(10, 5)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["1-sqrt", "linear", "cosine"])
def test_it_agrees_with_pytorch_optimizer(kind, torch_rates):
    peers = pytest.importorskip("pytorch_optimizer.lr_scheduler")

    def make(lr):
        return lambda optimizer: peers.get_wsd_schedule(
            optimizer, 10, 60, 30, cooldown_type=kind
        )

    theirs = torch_rates(make, 131)
    # Its warm-up begins at 0: a step behind.
    theirs = [*theirs[1:11], *theirs[10:130]]
    ours = values(WSD(1.0, steps=100, warmup=10, decay=30, kind=kind))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
