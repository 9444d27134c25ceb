import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.schedules import Cosine, Warmup


def values(schedule, count):
    return np.asarray(schedule(np.arange(count)))


def test_the_first_update_is_not_wasted_and_the_last_is_at_the_top():
    warmed = values(Warmup(0.1, steps=5), 8)
    np.testing.assert_allclose(warmed[:5], [0.02, 0.04, 0.06, 0.08, 0.1], rtol=1e-6)
    assert (warmed[5:] == np.float32(0.1)).all()


def test_the_schedule_begins_when_the_warm_up_is_over():
    cosine = Cosine(0.1, steps=20, final=0.01)
    warmed = values(Warmup(cosine, steps=7), 40)
    np.testing.assert_array_equal(warmed[7:], values(cosine, 33))


def test_start_is_the_value_one_step_before_the_first():
    linear = values(Warmup(0.5, steps=4, start=0.1), 4)
    np.testing.assert_allclose(linear, [0.2, 0.3, 0.4, 0.5], rtol=1e-6)
    # It may also lie above: a warm-up from high to low.
    falling = values(Warmup(0.1, steps=4, start=0.5), 4)
    np.testing.assert_allclose(falling, [0.4, 0.3, 0.2, 0.1], rtol=1e-6)


def test_an_exponential_warm_up_multiplies_by_the_same_factor_each_step():
    warmed = values(Warmup(1.0, steps=6, kind="exponential", start=1e-3), 6)
    np.testing.assert_allclose(warmed[1:] / warmed[:-1], 10 ** (3 / 6), rtol=1e-5)
    np.testing.assert_allclose(warmed[-1], 1.0, rtol=1e-6)


def test_a_cosine_warm_up_is_flat_at_both_ends_and_steep_between():
    rises = np.diff(values(Warmup(1.0, steps=100, kind="cosine"), 101))
    assert rises.max() == rises[47:52].max() and rises.max() > 1.5 / 100
    assert rises[0] < 0.1 / 100 and rises[-2] < 0.1 / 100


def test_no_steps_are_no_warm_up():
    cosine = Cosine(0.1, steps=20)
    np.testing.assert_array_equal(values(Warmup(cosine, 0), 30), values(cosine, 30))
    assert Warmup(cosine, 0.0).bind(1000).steps == 0


def test_it_wraps_the_schedules_of_keras():
    inner = keras.optimizers.schedules.CosineDecay(
        0.1, 20, warmup_target=0.3, warmup_steps=5
    )  # one that branches on the step
    schedule = Warmup(inner, steps=4)
    following = [float(inner(step)) for step in range(30)]
    np.testing.assert_array_equal(values(schedule, 34)[4:], np.float32(following))
    np.testing.assert_allclose(float(schedule(1)), 0.05, rtol=1e-6)
    assert float(tf.function(schedule)(tf.constant(7))) == following[3]
    assert schedule.peak == pytest.approx(0.1)
    assert schedule.duration is None
    copied = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(schedule)
    )
    np.testing.assert_array_equal(values(copied, 34), values(schedule, 34))


def test_fractions_inside_are_of_what_the_warm_up_leaves():
    bound = Warmup(Cosine(1e-3, steps=1.0), steps=0.05).bind(1000)
    assert (bound.steps, bound.schedule.steps) == (50, 950)
    assert bound.duration == 1000
    assert float(bound(999)) > 0.0 and float(bound(1000)) == 0.0


def test_nested_warm_ups_bind_one_after_the_other():
    bound = Warmup(Warmup(0.1, steps=0.5), steps=0.2).bind(100)
    assert (bound.steps, bound.schedule.steps) == (20, 40)


@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_a_run_too_short_for_a_warm_up_still_gets_a_schedule(total_steps):
    bound = Warmup(Cosine(1e-3, steps=1.0), steps=0.6).bind(total_steps)
    assert bound.bound
    assert np.isfinite(values(bound, 5)).all()


def test_an_exponential_warm_up_from_zero_is_refused():
    with pytest.raises(ValueError, match=r"`start` must be greater than 0"):
        Warmup(1e-3, steps=10, kind="exponential")


def test_an_unknown_kind_names_those_that_exist():
    with pytest.raises(ValueError, match="'linear', 'cosine', 'exponential'"):
        Warmup(1e-3, steps=10, kind="quadratic")


@pytest.mark.parametrize("schedule", ["1e-3", None, True, lambda step: 1e-3])
def test_it_wraps_only_numbers_and_schedules(schedule):
    with pytest.raises(
        TypeError, match=r"`schedule` must be .* learning rate schedule"
    ):
        Warmup(schedule, steps=10)


@pytest.mark.peer
def test_linear_agrees_with_optax_one_step_on(in_float64):
    optax = pytest.importorskip("optax")
    peer = optax.warmup_constant_schedule(1e-4, 1e-2, 20)
    wanted = [float(peer(step + 1)) for step in range(30)]
    ours = values(Warmup(1e-2, 20, start=1e-4), 30)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)


@pytest.mark.peer
def test_warm_up_and_cosine_agree_with_optax(in_float64):
    optax = pytest.importorskip("optax")
    peer = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 20, 100, end_value=1e-3)
    ours = values(Warmup(Cosine(1e-2, 80, final=1e-3), 20), 120)
    rising = [float(peer(step + 1)) for step in range(20)]
    falling = [float(peer(step)) for step in range(20, 120)]
    np.testing.assert_allclose(ours, rising + falling, rtol=1e-6)


@pytest.mark.peer
def test_exponential_agrees_with_optax_one_step_on(in_float64):
    optax = pytest.importorskip("optax")
    peer = optax.exponential_decay(1e-4, 20, decay_rate=100.0)
    wanted = [float(peer(step + 1)) for step in range(20)]
    ours = values(Warmup(1e-2, 20, kind="exponential", start=1e-4), 20)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)


@pytest.mark.peer
def test_linear_agrees_with_torch_one_step_on():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    peer = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-2, total_iters=20)
    wanted = []
    for _ in range(30):
        optimizer.step()
        peer.step()
        wanted.append(peer.get_last_lr()[0])
    ours = values(Warmup(1e-2, 20, start=1e-4), 30)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)
