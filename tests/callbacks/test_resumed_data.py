"""Data of every kind are where they were when a run goes on."""

import contextlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt._keras import random_state
from tests.interruption import BATCH, Setting, X, Y, small_model

CUTS = (9, 22, 17)


@contextlib.contextmanager
def no_seed():
    """As if nobody had called `tf.random.set_seed`."""
    before = random_state.eager_state()
    random_state.set_eager_state({"seed": None, "generator": None})
    yield
    random_state.set_eager_state(before)


def setting(data, **arguments):
    return Setting(small_model, data=data, **arguments)


class Batches(keras.utils.PyDataset):
    """Batches of shuffled samples, each with noise of NumPy's global generator."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.order = np.arange(len(X))
        np.random.shuffle(self.order)

    def __len__(self):
        return len(X) // BATCH

    def __getitem__(self, place):
        chosen = self.order[place * BATCH : (place + 1) * BATCH]
        noise = np.random.normal(size=(len(chosen), 4))
        return (X[chosen] + noise).astype("float32"), Y[chosen]


class ShuffledInPlace(Batches):
    def on_epoch_end(self):
        np.random.shuffle(self.order)


class WithAGenerator(Batches):
    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(3)

    def __getitem__(self, place):
        x, y = super().__getitem__(place)
        return x + self.generator.normal(size=x.shape).astype("float32"), y

    def on_epoch_begin(self):
        self.order = self.generator.permutation(len(X))


class ThatTells(Batches):
    """It keeps what no attribute of a plain kind holds."""

    def __init__(self):
        super().__init__()
        self.hidden = {"epoch": 0}

    def on_epoch_end(self):
        self.hidden["epoch"] += 1

    def __getitem__(self, place):
        x, y = super().__getitem__(place)
        return x + self.hidden["epoch"], y

    def get_state(self):
        return dict(self.hidden)

    def set_state(self, state):
        self.hidden = dict(state)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "kind",
    [
        ShuffledInPlace,
        pytest.param(Batches, marks=SLOW),
        pytest.param(WithAGenerator, marks=SLOW),
        pytest.param(ThatTells, marks=SLOW),
    ],
)
def test_a_data_set_in_python(kind, tmp_path):
    setting(lambda: (kind(),)).check(tmp_path, CUTS)


def samples():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def augmented():
    noise = keras.layers.GaussianNoise(1.0, seed=4)
    generator = tf.random.Generator.from_seed(3)
    return (
        samples()
        .shuffle(30, seed=1)
        .map(lambda x, y: (noise(x, training=True) + generator.normal((4,)), y))
        .batch(BATCH)
        .prefetch(2)
    )


DATASETS = {
    "in order": lambda: samples().batch(BATCH),
    "seeded": lambda: samples().shuffle(30, seed=1).batch(BATCH),
    "seeded by the script": lambda: samples().shuffle(30).batch(BATCH),
    "augmented": augmented,
    "of unknown length": lambda: (
        samples().shuffle(30, seed=1).filter(lambda x, y: x[0] < 1).batch(BATCH)
    ),
    "from a function": lambda: tf.data.Dataset.from_generator(
        lambda: ((X[n : n + 4], Y[n : n + 4]) for n in range(0, 20, 4)),
        output_signature=(
            tf.TensorSpec((None, 4), tf.float32),
            tf.TensorSpec((None, 1), tf.float32),
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    "name",
    [
        name if name == "augmented" else pytest.param(name, marks=SLOW)
        for name in DATASETS
    ],
)
def test_a_pipeline(name, tmp_path):
    case = setting(lambda: (DATASETS[name](),), shuffle=False)
    case.check(tmp_path, CUTS)


@SLOW
def test_a_pipeline_that_repeats_goes_on_in_its_pass(tmp_path):
    def data():
        return (samples().shuffle(30, seed=1).repeat().batch(BATCH),)

    case = setting(data, shuffle=False, steps_per_epoch=4, epochs=4)
    case.check(tmp_path, CUTS)


class SharedShuffle(Setting):
    """Training and validation on parts of one shuffled data set."""

    def data_of_fit(self):
        whole = samples().shuffle(30, seed=1)
        self.arguments["validation_data"] = whole.take(6).batch(BATCH)
        return (whole.skip(6).batch(BATCH),)


@SLOW
def test_validation_that_shares_a_shuffle(tmp_path):
    case = SharedShuffle(small_model, shuffle=False, batch_size=None)
    case.data = case.data_of_fit
    case.check(tmp_path, CUTS)


@SLOW
def test_steps_per_execution_are_steps(tmp_path):
    def model():
        made = small_model()
        made.compile("adam", "mse", steps_per_execution=2)
        return made

    Setting(model).check(tmp_path, (5, 12, 7))


class Seen(keras.layers.Layer):
    """Notes the samples that it is called with."""

    def __init__(self, samples):
        super().__init__()
        # Not the list itself, of which Keras would make its own.
        self.note = samples.append

    def call(self, x):
        tf.py_function(lambda x: self.note(x.numpy().tolist()), [x], [])
        return x


def test_arrays_that_are_shuffled_without_a_seed_go_on_in_their_order(tmp_path):
    def batches(cut_at=None):
        seen = []
        model = keras.Sequential([keras.Input((4,)), Seen(seen), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        Setting(lambda: model, seed=None, save_freq=1).run(tmp_path, cut_at)
        return seen

    with no_seed():
        first = batches(cut_at=19)
        rest = batches()
    # Two batches of the second epoch were trained, and of one there is a backup.
    second = first[6:7] + rest[:5]
    assert len(first) == 8 and len(rest) == 11
    assert sorted(itertools.chain(*second)) == sorted(X.tolist())
    assert second != first[:6]


UNREPEATABLE = {
    "a Python generator": lambda: (
        (X[n % 20 : n % 20 + 2], Y[n % 20 : n % 20 + 2]) for n in range(1000)
    ),
    "`shuffle` without a seed": lambda: samples().shuffle(30).batch(BATCH),
    "RandomUniform without a seed": lambda: (
        samples().map(lambda x, y: (x + tf.random.uniform(()), y)).batch(BATCH)
    ),
    "deterministic=False": lambda: (
        samples()
        .map(lambda x, y: (x, y), num_parallel_calls=2, deterministic=False)
        .batch(BATCH)
    ),
}


@pytest.mark.parametrize("words", UNREPEATABLE)
def test_data_that_cannot_be_brought_back_are_named(words, tmp_path):
    case = setting(
        lambda: (UNREPEATABLE[words](),),
        shuffle=False,
        steps_per_epoch=3,
        seed=None,
        save_freq=1,
        epochs=4,
    )
    with no_seed(), pytest.warns(UserWarning, match=words):
        case.run(tmp_path, cut_at=12)
    # From the end of the first epoch on: seven calls, and five of the second.
    with no_seed(), pytest.warns(UserWarning, match="at the end of each epoch"):
        resumed = case.run(tmp_path)
    assert resumed["epochs"] == [0, 1, 2, 3]
    assert resumed["optimizer"][0] == 12
