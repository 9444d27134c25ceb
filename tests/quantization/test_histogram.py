import numpy as np

from kopt.quantization._histogram import BINS, Histogram


def counted(*batches):
    histogram = Histogram()
    for batch in batches:
        histogram.add(np.asarray(batch, "float64"))
    return histogram


def test_counts_every_value_once(random):
    batches = [random.normal(scale=scale, size=500) for scale in (0.1, 3.0, 40.0)]
    histogram = counted(*batches)
    assert histogram.counts.sum() == 1500
    assert histogram.reach >= np.abs(np.concatenate(batches)).max()


def test_a_value_stays_in_a_bin_around_it_as_the_reach_grows():
    values = np.array([-0.9, -0.25, 0.3, 0.8])
    histogram = counted(values, [5.0], [-70.0])
    width = 2 * histogram.reach / BINS
    for value in (*values, 5.0, -70.0):
        near = np.abs(histogram.centers - value) <= width
        assert histogram.counts[near].sum() >= 1
    occupied = histogram.centers[histogram.counts > 0]
    assert all(np.abs(occupied - value).min() <= width for value in values)


def test_keeps_the_smallest_and_largest_value():
    histogram = counted([1.0, 2.0], [-3.0], [0.5])
    assert (histogram.low, histogram.high) == (-3.0, 2.0)


def test_quantiles_are_exact_to_a_bin(random):
    values = random.normal(size=20_000)
    histogram = counted(*np.split(values, 4))
    width = 2 * histogram.reach / BINS
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        assert abs(histogram.quantile(share) - np.quantile(values, share)) < 2 * width
