import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from kopt.evaluation import _arithmetic

layers = keras.layers


def of_model(model, shape):
    call = tf.function(lambda x: model(x, training=False), autograph=False)
    graph = call.get_concrete_function(tf.TensorSpec((1, *shape))).graph
    return _arithmetic.of_graph(graph)


# Multiplications by hand: outputs times what each of them sums over.
CASES = {
    "dense": (layers.Dense(5), (7,), 5 * 7),
    "dense on a sequence": (layers.Dense(5), (4, 7), 4 * 5 * 7),
    "convolution": (layers.Conv2D(5, 3), (8, 8, 2), 6 * 6 * 5 * 9 * 2),
    "with a stride": (layers.Conv2D(5, 3, strides=2), (9, 9, 2), 16 * 5 * 9 * 2),
    "in groups": (layers.Conv2D(4, 3, groups=2), (8, 8, 6), 36 * 4 * 9 * 3),
    "one dimension": (layers.Conv1D(5, 3), (8, 2), 6 * 5 * 3 * 2),
    "depthwise": (layers.DepthwiseConv2D(3), (8, 8, 4), 36 * 4 * 9),
    "separable": (layers.SeparableConv2D(5, 3), (8, 8, 4), 36 * (4 * 9 + 5 * 4)),
    "transposed": (layers.Conv2DTranspose(5, 3, 2), (4, 4, 2), 16 * 2 * 9 * 5),
    "einsum": (layers.EinsumDense("abc,cd->abd", (4, 6)), (4, 3), 4 * 3 * 6),
}


@pytest.mark.parametrize("case", CASES)
def test_a_model_s_products_are_counted_as_by_hand(case):
    layer, shape, products = CASES[case]
    model = keras.Sequential([keras.Input(shape), layer])
    assert of_model(model, shape) == 2 * products


def test_three_dimensions_are_counted_as_by_hand():
    model = keras.Sequential([keras.Input((5, 5, 5, 2)), layers.Conv3D(4, 3)])
    assert of_model(model, (5, 5, 5, 2)) == 2 * 27 * 4 * 27 * 2


def test_attention_is_counted_as_by_hand():
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs))
    projections = 4 * 6 * 8 * 8  # query, key, value, output
    scores_and_values = 2 * (2 * 6 * 6 * 4)
    assert of_model(model, (6, 8)) == 2 * (projections + scores_and_values)


def test_loops_are_not_guessed():
    model = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3)])
    assert of_model(model, (4, 2)) is None


def test_open_sizes_are_not_guessed():
    model = keras.Sequential([keras.Input((None, 2)), layers.Dense(3)])
    assert of_model(model, (None, 2)) is None


def test_products_inside_functions_count_each_time_they_are_called():
    inner = tf.function(lambda x: x @ tf.ones((3, 3)))
    outer = tf.function(lambda x: inner(x) + inner(x + 1.0))
    graph = outer.get_concrete_function(tf.TensorSpec((2, 3))).graph
    assert _arithmetic.of_graph(graph) == 2 * 2 * (2 * 3 * 3)


def test_a_file_takes_as_many_operations_as_its_model(tmp_path):
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Conv2DTranspose(3, 3, strides=2)(x)
    x = layers.Dense(2)(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    kopt.export.tflite(model, tmp_path / "m.tflite", batch_size=2)
    file = kopt.export.Interpreter(tmp_path / "m.tflite")
    assert _arithmetic.of_file(file) == of_model(model, (8, 8, 2))


def test_products_of_activations_count_in_a_file_too(tmp_path):
    first, second = keras.Input((3, 4), name="a"), keras.Input((4, 5), name="b")
    model = keras.Model([first, second], keras.ops.matmul(first, second))
    kopt.export.tflite(
        keras.Model([first, second], layers.Dense(2)(model([first, second]))),
        tmp_path / "m.tflite",
    )
    file = kopt.export.Interpreter(tmp_path / "m.tflite")
    assert _arithmetic.of_file(file) == 2 * (3 * 5 * 4 + 3 * 2 * 5)


@pytest.mark.slow
def test_mobilenet_takes_what_its_authors_say():
    # 569 million multiplications and additions (arXiv:1704.04861, table 4).
    model = keras.applications.MobileNet(weights=None)
    found = of_model(model, (224, 224, 3))
    assert np.round(found / 2e6) == 569
