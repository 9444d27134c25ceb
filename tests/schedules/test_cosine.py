import numpy as np
import pytest

from kopt.schedules import Cosine

STEPS = np.arange(130)


def test_it_is_half_a_wave_from_initial_to_final():
    schedule = Cosine(3.0, steps=100, final=1.0)
    values = np.asarray(schedule(STEPS))
    assert values[0] == 3.0 and values[100] == 1.0
    # As far below the middle after it as above the middle before it.
    np.testing.assert_allclose(values[:101] + values[:101][::-1], 4.0, rtol=1e-6)


def test_it_only_ever_falls_or_only_ever_rises():
    assert (np.diff(np.asarray(Cosine(1.0, 100)(STEPS))) <= 0).all()
    assert (np.diff(np.asarray(Cosine(0.0, 100, final=0.4)(STEPS))) >= 0).all()


def test_it_is_exact_at_the_end_and_precise_just_before_it():
    schedule = Cosine(1e-3, steps=1_000_000)
    assert float(schedule(1_000_000)) == 0.0
    # 1 + cos(x) has no correct digit left this near to the end in float32.
    last = np.sin(0.5 * np.pi * 1e-6) ** 2 * 1e-3
    np.testing.assert_allclose(float(schedule(999_999)), last, rtol=1e-6)


def test_peak_is_the_higher_of_its_two_ends():
    assert Cosine(0.1, 10).peak == 0.1
    assert Cosine(0.1, 10, final=0.4).peak == 0.4


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match=r"`initial` must be .* at least 0"):
        Cosine(-1e-3, steps=10)
    with pytest.raises(ValueError, match=r"`final` must be .* at least 0"):
        Cosine(1e-3, steps=10, final=-1e-9)


@pytest.mark.parametrize("steps", [0, -5, 0.0, -0.1, 1000.0, float("nan")])
def test_a_length_is_at_least_a_step_and_at_most_the_run(steps):
    with pytest.raises(ValueError, match="`steps` must be"):
        Cosine(1e-3, steps=steps)


def test_a_number_of_steps_written_as_a_float_says_how_to_mend_it():
    with pytest.raises(ValueError, match=r"fraction of the run.*steps=1000"):
        Cosine(1e-3, steps=1000.0)


@pytest.mark.peer
@pytest.mark.parametrize("final", [0.0, 2e-4])
def test_it_agrees_with_optax(final, in_float64):
    optax = pytest.importorskip("optax")
    peer = optax.cosine_decay_schedule(1e-3, 100, alpha=final / 1e-3)
    wanted = [float(peer(step)) for step in STEPS]
    ours = Cosine(1e-3, 100, final=final)(STEPS)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.peer
def test_it_agrees_with_torch():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100, eta_min=2e-4)
    wanted = []
    for _ in range(101):  # torch's rate rises again after the end
        wanted.append(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
    ours = Cosine(1e-3, 100, final=2e-4)(np.arange(101))
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)
