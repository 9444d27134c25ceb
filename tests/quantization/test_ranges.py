import numpy as np
import pytest
import tensorflow as tf

from kopt.quantization import ranges
from tests.reference import quantization as reference

RANGES = [(-1.0, 1.1), (0.0, 6.0), (-3.7, 0.0), (-0.013, 12.9), (-5e3, 1e-2)]


@pytest.fixture
def values(random):
    return random.normal(scale=2.0, size=4000).astype("float32")


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("bits", [4, 8])
def test_grid_has_the_scale_and_zero_point_of_the_definition(low, high, bits):
    grid = ranges.grid(low, high, bits)
    scale, zero_point = reference.grid(low, high, bits)
    assert grid.scale == pytest.approx(scale, rel=1e-6)
    assert grid.zero_point == zero_point - 2 ** (bits - 1)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_grid_is_nudged_by_less_than_a_step_and_holds_zero(low, high):
    grid = ranges.grid(low, high)
    assert abs(grid.low - low) <= 0.5001 * grid.scale
    assert abs(grid.high - high) <= 0.5001 * grid.scale
    assert (grid.low / grid.scale) == pytest.approx(round(grid.low / grid.scale))


@pytest.mark.parametrize(("low", "high"), [*RANGES, (-1.0, 1.0), (-0.3, 0.1)])
@pytest.mark.parametrize("bits", [4, 8])
def test_grid_ends_where_the_kernel_of_tensorflow_ends_to_the_bit(low, high, bits):
    ends = ranges.fake_quantize(tf.constant([-1e6, 1e6]), low, high, bits).numpy()
    grid = ranges.grid(low, high, bits)
    np.testing.assert_array_equal(ends, np.float32([grid.low, grid.high]))


def test_narrow_grid_of_a_symmetric_range_is_symmetric():
    grid = ranges.grid(-2.54, 2.54, narrow=True)
    assert grid.low == -grid.high
    assert grid.zero_point == 0
    assert grid.scale == pytest.approx(0.02)


@pytest.mark.parametrize(("low", "high"), RANGES[:4])
@pytest.mark.parametrize("bits", [4, 8])
def test_fake_quantized_values_are_those_of_the_definition(values, low, high, bits):
    result = ranges.fake_quantize(values, low, high, bits).numpy()
    expected = reference.fake_quantize(values, low, high, bits)
    clear = reference.distance_to_tie(values, low, high, bits) > 1e-3
    assert clear.mean() > 0.99
    step = reference.grid(low, high, bits)[0]
    np.testing.assert_allclose(result[clear], expected[clear], atol=1e-5 * step * 255)


def test_fake_quantization_rounds_to_the_nearest_point_of_the_grid(values):
    grid = ranges.grid(-3.0, 4.0)
    result = ranges.fake_quantize(values, -3.0, 4.0).numpy()
    inside = (values > grid.low) & (values < grid.high)
    assert np.abs(result - values)[inside].max() <= 0.5001 * grid.scale
    steps = result / grid.scale
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert len(np.unique(result)) <= 256


def test_fake_quantization_is_idempotent(values):
    once = ranges.fake_quantize(values, -3.0, 4.0)
    np.testing.assert_array_equal(ranges.fake_quantize(once, -3.0, 4.0), once)


def test_gradient_passes_inside_the_range_and_stops_outside():
    values = tf.constant([-5.0, -0.9, 0.0, 0.7, 5.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(ranges.fake_quantize(values, -1.0, 1.0))
    np.testing.assert_array_equal(tape.gradient(total, values), [0, 1, 1, 1, 0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_fake_quantization_keeps_the_float_type(dtype):
    result = ranges.fake_quantize(tf.cast([0.3, 0.6], dtype), 0.0, 1.0)
    assert result.dtype == dtype


def test_integers_come_out_as_floats():
    result = ranges.fake_quantize(tf.constant([0, 255], "uint8"), 0.0, 255.0)
    np.testing.assert_array_equal(result, np.array([0, 255], "float32"))


@pytest.mark.parametrize("shape", [(5,), (7, 4), (3, 3, 2, 6)])
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_rounded_on_a_grid_for_each_channel(random, shape, bits):
    weights = random.normal(size=shape) * np.logspace(-2, 2, shape[-1])
    weights = weights.astype("float32")
    result = ranges.fake_quantize_weights(weights, [-1], bits).numpy()
    expected = reference.fake_quantize_channels(weights, bits)
    bounds = np.abs(weights).reshape(-1, shape[-1]).max(axis=0)
    np.testing.assert_allclose(result / bounds, expected / bounds, atol=1e-6)


@pytest.mark.parametrize("axes", [(-1,), (2,), (-2, -1), (0,)])
def test_a_channel_is_numbered_by_any_axes(random, axes):
    weights = random.normal(size=(3, 2, 4, 5)).astype("float32")
    other = tuple(sorted(set(range(4)) - {axis % 4 for axis in axes}))
    bounds = np.abs(weights).max(axis=other)
    result = ranges.channel_bounds(weights, axes)
    np.testing.assert_array_equal(result, bounds.reshape(-1))
    steps = ranges.fake_quantize_weights(weights, axes).numpy() / np.expand_dims(
        bounds / 127, other
    )
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_without_channel_axes_the_tensor_has_one_grid(random):
    weights = random.normal(size=(3, 4)).astype("float32")
    result = ranges.fake_quantize_weights(weights, ()).numpy()
    steps = result / (np.abs(weights).max() / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


@pytest.mark.parametrize("jit", [False, True])
def test_zeros_stay_exactly_zero_also_a_channel_of_them(random, jit):
    weights = random.normal(size=(50, 4)).astype("float32")
    weights[::2] = 0
    weights[:, 1] = 0
    round_weights = tf.function(
        lambda one: ranges.fake_quantize_weights(one, [-1]), jit_compile=jit
    )
    result = round_weights(weights).numpy()
    assert np.isfinite(result).all()
    assert (result[weights == 0] == 0).all()


def test_the_largest_weight_of_a_channel_is_kept(random):
    weights = random.normal(size=(50, 4)).astype("float32")
    result = ranges.fake_quantize_weights(weights, [-1]).numpy()
    np.testing.assert_allclose(
        np.abs(result).max(axis=0), np.abs(weights).max(axis=0), rtol=1e-6
    )


def test_gradient_of_every_weight_passes_straight_through(random):
    weights = tf.constant(random.normal(size=(50, 4)).astype("float32"))
    upstream = random.normal(size=(50, 4)).astype("float32")
    with tf.GradientTape() as tape:
        tape.watch(weights)
        total = tf.reduce_sum(upstream * ranges.fake_quantize_weights(weights, [-1]))
    np.testing.assert_array_equal(tape.gradient(total, weights), upstream)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-2.0, 3.0, (-2.0, 3.0)), (1.0, 3.0, (0.0, 3.0)), (-3.0, -1.0, (-3.0, 0.0))],
)
def test_enclosing_range_holds_zero(low, high, expected):
    assert ranges.enclosing_range(low, high) == expected


def test_enclosing_range_of_zeros_has_a_width():
    assert ranges.enclosing_range(0.0, 0.0) == (0.0, 1.0)


class TestARangeInTraining:
    def follow(self, old, batch, rate=0.01):
        pairs = [tuple(map(tf.constant, pair)) for pair in (old, batch)]
        return [float(end) for end in ranges.following(*pairs, tf.constant(rate))]

    def test_it_is_a_moving_average_where_it_fits(self):
        low, high = self.follow((-1.0, 2.0), (-1.5, 1.0))
        assert low == pytest.approx(-1.005)
        assert high == pytest.approx(1.99)

    def test_it_widens_at_once_where_much_is_cut_off(self):
        assert self.follow((-1.0, 2.0), (-30.0, 3.0)) == pytest.approx([-30.0, 2.01])

    def test_it_narrows_at_once_where_nearly_nothing_is_in_use(self):
        low, high = self.follow((-100.0, 300.0), (-1.0, 2.0))
        assert high - low == pytest.approx(8 * 3.0)
        assert low / high == pytest.approx(-99.01 / 297.02)

    def test_a_range_that_is_nearly_nothing_is_left_at_once(self):
        found = self.follow((0.0, 1e-29), (0.0, 5.0))
        assert found == pytest.approx([0.0, 5.0])

    @pytest.mark.parametrize("batch", [(-30.0, 300.0), (-1e-3, 1e-3), (0.0, 0.0)])
    def test_at_a_rate_of_zero_it_stands_still(self, batch):
        assert self.follow((-1.0, 2.0), batch, rate=0.0) == [-1.0, 2.0]
