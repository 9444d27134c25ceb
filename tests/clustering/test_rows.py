"""Which numbers of a weight share centroids."""

import keras
import numpy as np
import pytest

from kopt.clustering._rows import Rows, rows_of

layers = keras.layers


@pytest.mark.parametrize("axes", [(), (0,), (3,), (2,), (2, 3)])
def test_a_weight_comes_back_from_its_rows(axes):
    weight = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    rows = Rows(weight.shape, axes)
    np.testing.assert_array_equal(rows.weight(rows.of(weight)), weight)
    assert rows.of(weight).shape == (rows.number, rows.length)


def test_a_row_holds_one_channel():
    weight = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    found = Rows(weight.shape, (3,)).of(weight)
    np.testing.assert_array_equal(found[2], weight[..., 2].ravel())


CHANNELS = [
    (layers.Conv1D(6, 3), "kernel", (3, 4, 6), 6),
    (layers.Conv2D(6, 3), "kernel", (3, 3, 4, 6), 6),
    (layers.Conv2DTranspose(6, 3), "kernel", (3, 3, 6, 4), 6),
    (layers.DepthwiseConv2D(3), "kernel", (3, 3, 4, 1), 4),
    (layers.SeparableConv2D(6, 3), "depthwise_kernel", (3, 3, 4, 1), 4),
    (layers.SeparableConv2D(6, 3), "pointwise_kernel", (1, 1, 4, 6), 6),
    (layers.Dense(6), "kernel", (4, 6), 1),
    (layers.Embedding(6, 4), "embeddings", (6, 4), 1),
]


@pytest.mark.parametrize(("layer", "name", "shape", "channels"), CHANNELS)
def test_convolutions_have_the_channels_of_their_outputs(layer, name, shape, channels):
    assert rows_of(layer, name, shape, per_channel=True).number == channels
    assert rows_of(layer, name, shape, per_channel=False).number == 1
