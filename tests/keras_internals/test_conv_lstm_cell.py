"""The class of the cells of convolutional recurrent layers."""

import keras
import pytest

from kopt._keras.conv_lstm_cell import ConvLSTMCell


@pytest.mark.parametrize("kind", ["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"])
def test_cells_of_all_of_them_are_of_this_class(kind):
    layer = getattr(keras.layers, kind)(2, 3)
    assert type(layer.cell) is ConvLSTMCell


def test_the_cell_holds_the_kernels():
    layer = keras.layers.ConvLSTM1D(2, 3)
    layer.build((None, 2, 5, 4))
    assert {w.name for w in layer.cell.weights} >= {"kernel", "recurrent_kernel"}
