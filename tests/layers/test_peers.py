"""The layers beside PyTorch, for the masks that the layers drew."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt.layers import DropConnect, Dropout

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def run(layer, values):
    """Output, gradient by the inputs and by the weights of the sum of squares."""
    values = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = layer(values, training=True)
        loss = tf.reduce_sum(outputs**2)
    weights = [weight.value for weight in layer.trainable_weights]
    return [outputs, *tape.gradient(loss, [values, *weights])]


def drawn(layer, probe):
    """What the layer's next call makes of other inputs, with the same masks."""
    state = layer.seed_generator.state.numpy()
    outputs = layer(probe, training=True).numpy()
    layer.seed_generator.state.assign(state)
    return outputs


def double(torch, values):
    return torch.tensor(np.asarray(values, "float64"), requires_grad=True)


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other.detach(), rtol=1e-5, atol=1e-5)


def test_dropout_and_its_gradient(torch):
    values = np.random.default_rng(0).normal(size=(20, 30)).astype("float32")
    layer = Dropout(0.3, seed=1)
    keep = torch.tensor(drawn(layer, np.ones_like(values)) != 0)
    inputs = double(torch, values)
    outputs = inputs * keep / (1 - 0.3)
    (outputs**2).sum().backward()
    assert_close(run(layer, values), [outputs, inputs.grad])


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_drop_connect_on_dense_and_its_gradients(torch, mode):
    values = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    layer = DropConnect(keras.layers.Dense(6, use_bias=False), 0.4, mode, seed=1)
    layer.build(values.shape)
    eyes = np.broadcast_to(np.eye(4, dtype="float32"), (5, 4, 4))
    keep = torch.tensor(drawn(layer, eyes) != 0)
    inputs, kernel = double(torch, values), double(torch, layer.layer.kernel)
    outputs = torch.einsum("bi,bio->bo", inputs, kernel * keep / (1 - 0.4))
    (outputs**2).sum().backward()
    assert_close(run(layer, values), [outputs, inputs.grad, kernel.grad])


@pytest.mark.parametrize("mode", ["batch", "row"])
def test_drop_connect_on_convolution_and_its_gradients(torch, mode):
    values = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    layer = DropConnect(keras.layers.Conv2D(4, 3, use_bias=False), 0.4, mode, seed=1)
    layer.build(values.shape)
    kernel = double(torch, layer.layer.kernel)
    # A single one in the image copies the kernel, turned around, into the output. So
    # one probe for each input channel shows which weights each row has kept.
    keep = np.zeros((3, *kernel.shape), bool)
    for channel in range(2):
        probe = np.zeros((3, 5, 5, 2), "float32")
        probe[:, 2, 2, channel] = 1
        keep[:, :, :, channel] = drawn(layer, probe)[:, ::-1, ::-1] != 0
    inputs = double(torch, values)
    dropped = kernel * torch.tensor(keep) / (1 - 0.4)
    outputs = torch.cat(
        [
            torch.nn.functional.conv2d(
                row.permute(2, 0, 1)[None], own.permute(3, 2, 0, 1)
            ).permute(0, 2, 3, 1)
            for row, own in zip(inputs, dropped, strict=True)
        ]
    )
    (outputs**2).sum().backward()
    assert_close(run(layer, values), [outputs, inputs.grad, kernel.grad])
