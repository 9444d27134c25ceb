"""Operations that have one grid for all that they take in."""

import keras
import pytest
from keras import layers, ops

from kopt.export._file_contents import read
from tests.quantization.nearness import stddev, steps_apart
from tests.sampling import sampled


def skip(join, shape=(7, 6), first=None, second=None):
    """A small tensor and a much larger one that is made from it, put together."""
    keras.utils.set_random_seed(0)
    x = keras.Input(shape)
    small = (first or layers.Dense(6, kernel_initializer=stddev(0.3)))(x)
    large = (second or layers.Conv1D(6, 1, kernel_initializer=stddev(4.0)))(small)
    return keras.Model(x, layers.Dense(3)(join(small, large)))


def concatenate(*tensors, axis=-1):
    return layers.Concatenate(axis=axis)(list(tensors))


def padded(x, value=0.0):
    return ops.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=value)


def mirrored(x):
    return ops.pad(x, ((0, 0), (1, 1), (0, 0)), mode="reflect")


JOINS = {
    "concatenate": concatenate,
    "over time": lambda a, b: concatenate(a, b, axis=1),
    "reshape between": lambda a, b: concatenate(
        layers.Reshape((7, 6))(layers.Reshape((42,))(a)), b
    ),
    "pad of 0 between": lambda a, b: concatenate(layers.ZeroPadding1D(0)(a), b),
    "pad between": lambda a, b: concatenate(layers.ZeroPadding1D(1)(a), b, axis=1),
    "pool between": lambda a, b: concatenate(layers.MaxPooling1D(1)(a), b),
    "operation": lambda a, b: ops.concatenate([a, b], -1),
    "stack": lambda a, b: layers.Reshape((7, 12))(ops.stack([a, b], -1)),
    "hstack": lambda a, b: ops.hstack([a, b]),
    "maximum": lambda a, b: layers.Maximum()([a, b]),
    "minimum": lambda a, b: ops.minimum(a, b),
    "with a number": lambda a, b: ops.maximum(a, 0.3) + b,
    "where": lambda a, b: ops.where(a > 0.1, a, b),
    "of joins": lambda a, b: concatenate(layers.Maximum()([a, b]), concatenate(a, b)),
    "of a softmax": lambda a, b: concatenate(layers.Softmax()(a), b),
    "behind a split": lambda a, b: concatenate(ops.split(a, 2, -1)[0], b),
    "behind a take": lambda a, b: concatenate(
        ops.take(a, [3, 2, 1], axis=1), b, axis=1
    ),
    "behind a flip": lambda a, b: concatenate(ops.flip(a, axis=1), b),
    "behind a mirror": lambda a, b: concatenate(mirrored(a), mirrored(b)),
    "behind a maximum over time": lambda a, b: concatenate(
        ops.max(a, axis=1, keepdims=True), b, axis=1
    ),
    "relu behind": lambda a, b: layers.ReLU()(concatenate(a, b)),
    "pad with a number": lambda a, b: padded(concatenate(a, b), -100.0),
    "pads": lambda a, b: concatenate(padded(a, 9.0), padded(b)),
}


@pytest.mark.parametrize("kind", sampled(JOINS, {"concatenate", "of joins", "pads"}))
def test_what_goes_into_a_join_is_on_its_grid(kind, random, tmp_path):
    x = random.normal(size=(100, 7, 6)).astype("float32")
    steps, report = steps_apart(skip(JOINS[kind]), x, tmp_path / "m.tflite")
    assert steps.max() < 4
    assert report.float_tensors == () and report.mismatched_grids == ()
    for operation, scales in scales_of_joins(tmp_path / "m.tflite"):
        assert len(scales) == 1, operation


def test_a_skip_around_a_network_of_smaller_images(random, tmp_path):
    x = random.normal(size=(40, 8, 8, 3)).astype("float32")
    first = layers.Conv2D(4, 1, kernel_initializer=stddev(0.3))
    second = keras.Sequential(
        [
            layers.MaxPooling2D(),
            layers.Conv2D(4, 1, kernel_initializer=stddev(4.0)),
            layers.UpSampling2D(),
        ]
    )
    model = skip(concatenate, (8, 8, 3), first, second)
    steps, _ = steps_apart(model, x, tmp_path / "m.tflite")
    assert steps.max() < 4


def scales_of_joins(path):
    """The scales of all integer tensors of each operation that has to have one."""
    contents = read(path.read_bytes())
    for operation in contents.operations:
        if operation.name not in ("CONCATENATION", "MAXIMUM", "MINIMUM", "PACK", "PAD"):
            continue
        tensors = [contents.tensors[i] for i in operation.inputs + operation.outputs]
        yield (
            operation.name,
            {float(one.scales[0]) for one in tensors if one.dtype == "int8"},
        )


@pytest.mark.slow
def test_rows_of_a_table_are_joined_with_what_is_made_of_them(random, tmp_path):
    x = keras.Input((5,), dtype="int32")
    rows = layers.Embedding(30, 4)(x)
    states = layers.LSTM(4, return_sequences=True)(rows)
    model = keras.Model(x, layers.Dense(3)(concatenate(rows, states)))
    indices = random.integers(0, 30, size=(60, 5)).astype("int32")
    steps, report = steps_apart(model, indices, tmp_path / "m.tflite")
    # Each turn of the LSTM goes on from what the last one rounded: 6 steps were seen.
    assert steps.max() < 10
    assert report.float_tensors == ()
    for operation, scales in scales_of_joins(tmp_path / "m.tflite"):
        assert len(scales) == 1, operation
