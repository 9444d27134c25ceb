"""A layer in its integer form computes what the layer computes."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import _integer_forms


def normalization(shape, random, **arguments):
    layer = layers.BatchNormalization(**arguments)
    layer.build(shape)
    for variable in layer.variables:
        variable.assign(random.uniform(0.5, 2.0, variable.shape))
    layer.float_class = layers.BatchNormalization
    return layer


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4), (5, 6, 7, 4), (2, 3, 3, 3, 4)])
@pytest.mark.parametrize("learned", [True, False])
def test_batch_normalization(random, shape, learned):
    layer = normalization(shape, random, center=learned, scale=learned)
    x = random.normal(size=shape).astype("float32")
    result = _integer_forms.batch_normalization(layer, x, training=False)
    np.testing.assert_allclose(result, layer(x), atol=1e-6)


def test_batch_normalization_in_training_is_the_layers_own(random):
    layer = normalization((5, 4), random)
    x = random.normal(size=(5, 4)).astype("float32")
    result = _integer_forms.batch_normalization(layer, x, training=True)
    np.testing.assert_allclose(
        keras.ops.mean(result, axis=0), layer.beta.numpy(), atol=1e-5
    )


def test_a_frozen_batch_normalization_uses_its_statistics(random):
    layer = normalization((5, 4), random)
    layer.trainable = False
    x = random.normal(size=(5, 4)).astype("float32")
    result = _integer_forms.batch_normalization(layer, x, training=True)
    np.testing.assert_allclose(result, layer(x), atol=1e-6)


@pytest.mark.parametrize(("inputs", "names"), [(2, ()), (4, ("sum_of_2", "sum_of_3"))])
def test_sums_of_more_than_two_have_ranges_between(inputs, names):
    assert _integer_forms.partial_results("sum")(layers.Add(), inputs) == names
