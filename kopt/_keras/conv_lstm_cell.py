"""The class of the cells inside `ConvLSTM1D`, `ConvLSTM2D` and `ConvLSTM3D`.

Keras exports the cells of all other recurrent layers. Here the cell is what holds the
kernels.
"""

from keras.src.layers.rnn.conv_lstm import ConvLSTMCell as ConvLSTMCell
