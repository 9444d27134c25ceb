import keras
import pytest

import kopt


def network(input_shape=(16, 16, 3), **values):
    hypermodel = kopt.tuning.HyperCNN(input_shape, classes=3, level="full")
    hp = hypermodel.space()
    hp.values.update(values)
    return hypermodel.build(hp)


def layers(model, kind):
    return [layer for layer in model.layers if type(layer) is kind]


def test_filters_double_and_resolution_halves_from_stage_to_stage():
    model = network(width=8, depth=3, convolutions=1)
    convolutions = layers(model, keras.layers.Conv2D)
    assert [layer.filters for layer in convolutions] == [8, 16, 32]
    assert [layer.output.shape[1] for layer in convolutions] == [16, 8, 4]


def test_images_are_not_halved_below_two_pixels():
    model = network((5, 9, 1), depth=3)
    assert len(layers(model, keras.layers.MaxPooling2D)) == 1
    assert model.output_shape == (None, 3)


def test_separable_convolutions_need_far_fewer_parameters():
    dense = network(width=64, depth=3).count_params()
    model = network(width=64, depth=3, separable=True)
    assert model.count_params() < dense / 5
    # The first convolution sees 3 channels: it has nothing to separate.
    assert len(layers(model, keras.layers.DepthwiseConv2D)) == 5


def test_batch_norm_follows_every_convolution_and_takes_its_bias():
    model = network(depth=2, convolutions=2)
    convolutions = layers(model, keras.layers.Conv2D)
    assert not any(layer.use_bias for layer in convolutions)
    assert len(layers(model, keras.layers.BatchNormalization)) == 4
    bare = layers(network(batch_norm=False), keras.layers.Conv2D)
    assert all(layer.use_bias for layer in bare)


def test_network_does_not_depend_on_the_image_size():
    assert network((16, 16, 3)).count_params() == network((64, 48, 3)).count_params()


def test_kernel_size_reaches_the_convolutions():
    model = network(kernel_size=5)
    assert {layer.kernel_size for layer in layers(model, keras.layers.Conv2D)} == {
        (5, 5)
    }


def test_grey_images_without_a_channel_axis_are_refused():
    with pytest.raises(ValueError, match=r"images\[\.\.\., None\]"):
        kopt.tuning.HyperCNN((28, 28), classes=10)
