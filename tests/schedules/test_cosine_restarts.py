import numpy as np
import pytest
import tensorflow as tf

from kopt.schedules import Cosine, CosineRestarts

STEPS = np.arange(160)


def values(schedule, steps=STEPS):
    return np.asarray(schedule(steps))


def test_one_cycle_is_a_cosine():
    cosine, restarts = Cosine(1.0, 100, final=0.1), CosineRestarts(1.0, 100, 1, 0.1)
    np.testing.assert_array_equal(values(restarts), values(cosine))


def test_each_cycle_begins_at_its_top_and_they_end_together():
    ours = values(CosineRestarts(1.0, 70, cycles=3, growth=2.0, decay=0.5))
    np.testing.assert_array_equal(ours[[0, 10, 30]], [1.0, 0.5, 0.25])
    assert ours[9] < 0.1 and ours[29] < 0.05 and ours[69] > 0
    assert (ours[70:] == 0).all()


def test_a_growing_cycle_is_the_same_wave_stretched():
    ours = values(CosineRestarts(1.0, 70, cycles=3, growth=2.0))
    np.testing.assert_allclose(ours[30:70:2], ours[10:30], rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("cycles", "growth"), [(7, 1.0), (6, 2.0), (5, 3.0)])
def test_a_cycle_begins_at_its_very_step(cycles, growth, jit_compile):
    sizes = [3 * growth**cycle for cycle in range(cycles)]
    schedule = CosineRestarts(1.0, int(sum(sizes)), cycles, growth=growth)
    compiled = tf.function(schedule, jit_compile=jit_compile)
    starts = np.cumsum([0, *sizes[:-1]])
    assert (compiled(tf.constant(starts, "int64")).numpy() == 1.0).all()
    assert (compiled(tf.constant(starts[1:] - 1, "int64")).numpy() < 0.5).all()


def test_the_warm_up_of_a_cycle_begins_above_its_end_and_reaches_its_top():
    ours = values(CosineRestarts(1.0, 60, cycles=2, final=0.2, decay=0.8, warmup=4))
    np.testing.assert_allclose(ours[:4], [0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(ours[30:34], [0.35, 0.5, 0.65, 0.8], rtol=1e-6)
    # The wave has the rest of the cycle.
    np.testing.assert_array_equal(ours[4:30], values(Cosine(1.0, 26, 0.2))[:26])


def test_a_warm_up_longer_than_a_cycle_is_refused():
    with pytest.raises(ValueError, match=r"first, shortest cycle, which has 10 step"):
        CosineRestarts(1.0, 70, cycles=3, growth=2.0, warmup=10)
    with pytest.raises(ValueError, match="`warmup` must be less than"):
        CosineRestarts(1.0, 1.0, cycles=3, warmup=1.0)
    unbound = CosineRestarts(1.0, 1.0, cycles=3, warmup=10)
    assert unbound.bind(60).warmup == 10
    with pytest.raises(ValueError, match=r"which has 5 step"):
        unbound.bind(15)


def test_no_cycle_lies_below_the_end():
    with pytest.raises(ValueError, match=r"`final` must be .* at most 0\.25"):
        CosineRestarts(1.0, 70, cycles=3, decay=0.5, final=0.3)


@pytest.mark.peer
@pytest.mark.parametrize("growth", [1, 2])
def test_it_agrees_with_torch(growth, torch_rates):
    def make(lr):
        return lambda optimizer: lr.CosineAnnealingWarmRestarts(
            optimizer, T_0=10, T_mult=growth, eta_min=0.1
        )

    steps = 10 * sum(growth**cycle for cycle in range(3))
    theirs = torch_rates(make, steps)  # torch's begins a fourth cycle then
    ours = CosineRestarts(1.0, steps, cycles=3, final=0.1, growth=growth)
    np.testing.assert_allclose(values(ours)[:steps], theirs, rtol=1e-6)


@pytest.mark.peer
def test_cycles_with_a_warm_up_agree_with_optax(in_float64):
    optax = pytest.importorskip("optax")
    ours = CosineRestarts(1.0, 70, 3, final=0.1, growth=2.0, decay=0.5, warmup=4)
    peer = optax.sgdr_schedule(
        [
            {
                "init_value": 0.1,
                "peak_value": 0.5**cycle,
                "decay_steps": 10 * 2**cycle,
                "warmup_steps": 4,
                "end_value": 0.1,
            }
            for cycle in range(3)
        ]
    )
    # optax's warm-ups begin at the end value itself: they are a step behind.
    rising = np.isin(STEPS, [*range(4), *range(10, 14), *range(30, 34)])
    theirs = [
        float(peer(step + late)) for step, late in zip(STEPS, rising, strict=True)
    ]
    np.testing.assert_allclose(values(ours), theirs, rtol=1e-6)


@pytest.mark.peer
def test_it_agrees_with_keras():
    import keras

    peer = keras.optimizers.schedules.CosineDecayRestarts(1.0, 10, 2.0, 0.5)
    ours = CosineRestarts(1.0, 70, cycles=3, growth=2.0, decay=0.5)
    theirs = [float(peer(step)) for step in range(70)]
    # Keras's float32 cosine loses digits near the end of a cycle.
    np.testing.assert_allclose(values(ours)[:70], theirs, rtol=1e-6, atol=2e-7)
