import keras
import pytest
from keras import layers

from kopt.quantization._activations import activation_of


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (layers.Dense(1), "none"),
        (layers.Conv2D(1, 1, activation="relu"), "fused"),
        (layers.Dense(1, activation="relu6"), "fused"),
        (layers.Dense(1, activation="softmax"), "fixed"),
        (layers.Activation("tanh"), "fixed"),
        (layers.Softmax(), "fixed"),
        (layers.Dense(1, activation="swish"), "free"),
        (layers.Dense(1, activation="elu"), "float"),
        (layers.Dense(1, activation=lambda x: x), "float"),
        (layers.ReLU(), "fused"),
        (layers.ReLU(max_value=6.0), "fused"),
        (layers.ReLU(max_value=4.0), "float"),
        (layers.ReLU(negative_slope=0.1), "free"),
        (layers.ReLU(negative_slope=0.1, max_value=6.0), "float"),
        (layers.ReLU(threshold=1.0), "float"),
        (layers.Dense(1, activation=layers.ReLU()), "fused"),
        (layers.Dense(1, activation=layers.LeakyReLU()), "free"),
        (layers.Flatten(), "none"),
    ],
)
def test_kinds(layer, kind):
    assert activation_of(layer).kind == kind


@pytest.mark.parametrize(
    ("name", "scale", "zero_point"),
    [
        ("softmax", 1 / 256, -128),
        ("sigmoid", 1 / 256, -128),
        ("tanh", 1 / 128, 0),
    ],
)
def test_prescribed_ranges_give_the_scale_and_zero_point_of_the_runtime(
    name, scale, zero_point
):
    from kopt.quantization.ranges import grid

    ends = activation_of(layers.Dense(1, activation=name)).fixed_range
    assert grid(*ends).scale == pytest.approx(scale, rel=1e-7)
    assert grid(*ends).zero_point == zero_point


def test_an_activation_that_cannot_be_hashed_is_float():
    class Callable:
        __hash__ = None

        def __call__(self, x):
            return x

    dense = layers.Dense(1)
    dense.activation = Callable()
    assert activation_of(dense).kind == "float"
    assert keras.activations.linear is not dense.activation
