import numpy as np
import pytest

from kopt.quantization._observers import (
    OBSERVERS,
    LeastError,
    MinMax,
    MovingAverage,
    Percentile,
)
from tests.reference import quantization as reference


@pytest.fixture
def batches(random):
    return [random.normal(scale=scale, size=50) for scale in (1.0, 5.0, 0.2, 3.0)]


def settled(observer, batches):
    for batch in batches:
        observer.observe(batch)
    return observer.settle()


def test_min_max_spans_all_batches(batches):
    everything = np.concatenate(batches)
    assert settled(MinMax(), batches) == (everything.min(), everything.max())


def test_moving_average_is_corrected_for_its_start(batches):
    low, high = settled(MovingAverage(0.8), batches)
    assert low == pytest.approx(
        reference.debiased_average([one.min() for one in batches], 0.8), rel=1e-12
    )
    assert high == pytest.approx(
        reference.debiased_average([one.max() for one in batches], 0.8), rel=1e-12
    )


@pytest.mark.parametrize("method", sorted(OBSERVERS))
def test_of_one_batch_every_method_makes_a_range_inside_its_own(batches, method):
    low, high = settled(OBSERVERS[method](8), batches[:1])
    assert batches[0].min() <= low + 1e-12
    assert high - 1e-12 <= batches[0].max()
    assert high - low > 0.5 * np.ptp(batches[0])


@pytest.fixture
def with_outliers(random):
    """A million values around zero and three far away."""
    values = random.normal(size=1_000_000)
    values[:3] = [80.0, 90.0, 100.0]
    return np.array_split(values, 10)


def test_percentiles_are_those_of_all_values(with_outliers):
    low, high = settled(Percentile(), with_outliers)
    everything = np.concatenate(with_outliers)
    bin_width = 2 * 128 / 4096
    assert low == pytest.approx(np.quantile(everything, 0.0001), abs=bin_width)
    assert high == pytest.approx(np.quantile(everything, 0.9999), abs=bin_width)


def test_percentiles_do_not_depend_on_the_order_of_batches(with_outliers):
    forward = settled(Percentile(), with_outliers)
    backward = settled(Percentile(), with_outliers[::-1])
    assert forward == pytest.approx(backward, abs=2 * 256 / 4096)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_range_of_least_error_beats_every_other_scale(with_outliers, bits):
    everything = np.concatenate(with_outliers)

    def error(low, high):
        rounded = reference.fake_quantize(everything, low, high, bits)
        return np.mean((rounded - everything) ** 2)

    chosen = error(*settled(LeastError(bits), with_outliers))
    for share in (0.02, 0.04, 0.06, 0.1, 0.3, 1.0):
        ends = everything.min(), share * everything.max()
        assert chosen <= 1.05 * error(*ends), share


def test_fewer_bits_cut_off_more(random):
    batches = [random.normal(size=10_000) for _ in range(3)]
    widths = [np.ptp(settled(LeastError(bits), batches)) for bits in (2, 4, 8)]
    assert widths[0] < widths[1] < widths[2]


def test_the_range_of_values_of_one_sign_ends_at_zero(random):
    batches = [np.abs(random.normal(size=1000)) for _ in range(3)]
    for method in ("percentile", "mse"):
        low, high = settled(OBSERVERS[method](8), batches)
        assert 0 <= low < 0.01
        assert 2.0 < high < 4.5


@pytest.mark.parametrize("method", sorted(OBSERVERS))
def test_zeros_settle_on_a_range(method):
    low, high = settled(OBSERVERS[method](8), [np.zeros(10), np.zeros(10)])
    assert np.isfinite([low, high]).all()
