import keras
import numpy as np
import pytest

from kopt.layers import DropBlock1D, DropBlock2D, DropBlock3D

LAYERS = {1: DropBlock1D, 2: DropBlock2D, 3: DropBlock3D}


def dropped(layer, shape):
    return np.array(layer(np.ones(shape), training=True)) == 0


def is_union_of_blocks(map_of_zeros, block):
    """Whether each zero lies in a block of zeros, which may stick out at the edges."""
    pad = [(size - 1, size - 1) for size in block]
    around = np.pad(map_of_zeros, pad, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(around, block)
    full = windows.all(axis=tuple(range(-len(block), 0)))
    covered = np.zeros_like(around)
    for place in np.argwhere(full):
        covered[tuple(slice(p, p + b) for p, b in zip(place, block, strict=True))] = 1
    inside = tuple(slice(b - 1, covered.shape[i] - b + 1) for i, b in enumerate(block))
    return (covered[inside] == map_of_zeros).all()


@pytest.mark.parametrize("rank", LAYERS)
def test_what_is_dropped_are_blocks(rank):
    block = (2, 3, 2)[:rank]
    layer = LAYERS[rank](0.2, block, seed=1, couple_channels=False)
    zeros = dropped(layer, (4, *(9, 8, 7)[:rank], 3))
    assert 0.1 < zeros.mean() < 0.4
    for sample in zeros:
        for channel in np.moveaxis(sample, -1, 0):
            assert is_union_of_blocks(channel, block)


@pytest.mark.parametrize("rank", LAYERS)
def test_each_place_is_dropped_at_the_rate_also_at_the_edges(rank):
    layer = LAYERS[rank](0.25, 3, seed=2)
    shape = (6000, *(5,) * rank, 1) if rank < 3 else (4000, 4, 4, 3, 1)
    share = dropped(layer, shape).mean(0)
    # 10^5 samples and more in all; 5 deviations at each place.
    assert abs(share - 0.25).max() < 5 * (0.25 * 0.75 / shape[0]) ** 0.5


def test_channels_lose_the_same_blocks_or_each_its_own():
    shape = (3, 8, 8, 5)
    coupled = dropped(DropBlock2D(0.3, 3, seed=1), shape)
    assert (coupled == coupled[..., :1]).all()
    own = dropped(DropBlock2D(0.3, 3, seed=1, couple_channels=False), shape)
    assert not (own == own[..., :1]).all()


@pytest.mark.parametrize("couple_channels", [True, False])
def test_channels_first_drops_blocks_of_the_map(couple_channels):
    layer = DropBlock2D(
        0.2,
        (2, 3),
        seed=1,
        couple_channels=couple_channels,
        data_format="channels_first",
    )
    zeros = dropped(layer, (4, 3, 9, 8))
    assert zeros.any()
    for channel in zeros.reshape(-1, 9, 8):
        assert is_union_of_blocks(channel, (2, 3))
    assert (zeros == zeros[:, :1]).all() == couple_channels


def test_scaled_by_the_count_the_sum_of_each_sample_stays():
    layer = DropBlock2D(0.3, 3, seed=1, scale_by_count=True)
    outputs = np.array(layer(np.ones((50, 9, 9, 2)), training=True))
    np.testing.assert_allclose(outputs.sum((1, 2, 3)), 9 * 9 * 2, rtol=1e-5)
    for sample in outputs:
        kept = sample[sample != 0]
        np.testing.assert_allclose(kept, sample.size / kept.size, rtol=1e-5)


def test_scaled_by_the_count_a_sample_without_survivors_is_zero():
    layer = DropBlock2D(1.0, 3, scale_by_count=True)
    outputs = np.array(layer(np.ones((2, 5, 5, 1)), training=True))
    np.testing.assert_array_equal(outputs, 0)


def test_blocks_of_one_are_dropout_of_places():
    zeros = dropped(DropBlock2D(0.3, 1, seed=1), (400, 8, 8, 2))
    assert zeros.mean() == pytest.approx(0.3, abs=5 * (0.21 / 25600) ** 0.5)
    left, right = zeros[:, :, :-1, 0], zeros[:, :, 1:, 0]
    assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("jit_compile", [False, True])
def test_maps_of_an_unknown_size(jit_compile):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            DropBlock2D(0.3, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse", jit_compile=jit_compile)
    for size in (6, 9):
        model.fit(np.ones((4, size, size, 3)), np.ones((4, 1)), verbose=0)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (DropBlock2D(0.1, 7), (2, 6, 8, 3), "`block_size` must be at most"),
        (DropBlock2D(0.1, 3), (2, 6, 3), "takes inputs of 4 axes"),
        (
            DropBlock2D(0.1, 3, data_format="channels_first"),
            (2, 8, 2, 2),
            "`block_size` must be at most",
        ),
        (DropBlock1D(0.1, 3), (2, 6, 6, 3), "takes inputs of 3 axes"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(np.ones(shape))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"block_size": 0}, ValueError),
        ({"block_size": 2.5}, TypeError),
        ({"block_size": (2, 2, 2)}, ValueError),
        ({"data_format": "NCHW"}, ValueError),
        ({"rate": 1.5}, ValueError),
    ],
)
def test_arguments_that_make_no_blocks_are_refused(arguments, error):
    with pytest.raises(error, match=r"`block_size`|`data_format`|`rate`"):
        DropBlock2D(**arguments)
