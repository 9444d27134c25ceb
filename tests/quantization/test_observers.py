import numpy as np
import pytest

from kopt.quantization._observers import OBSERVERS, MinMax, MovingAverage
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
    low, high = settled(OBSERVERS[method](), batches[:1])
    assert batches[0].min() <= low + 1e-12
    assert high - 1e-12 <= batches[0].max()
    assert high - low > 0.5 * np.ptp(batches[0])
