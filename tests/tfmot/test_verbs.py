"""TF-MOT itself, on Keras 3 models, from end to end."""

import os

import keras
import numpy as np
import pytest

import kopt
from kopt import tfmot
from tests.peer.tfmot import tf_keras
from tests.peer.tfmot import tfmot as theirs
from tests.tfmot.nets import L

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SAMPLES = 128


def data():
    random = np.random.default_rng(5)
    x = random.normal(size=(SAMPLES, 6, 6, 1)).astype("float32")
    y = (x.mean((1, 2, 3)) > 0).astype(int) + (x[:, 0, 0, 0] > 0)
    return x, y


def functional(nested=True):
    """A shared layer, a branch, batch normalization, and a model inside."""
    x = keras.Input((6, 6, 1))
    y = L.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(x)
    y = L.Flatten()(L.ReLU()(L.BatchNormalization()(y)))
    y = L.Dense(8, name="dense")(y)
    if nested:
        shared = L.Dense(8, name="shared")
        y = L.Add()([shared(y), shared(shared(y))])
        head = keras.Sequential([keras.Input((8,)), L.Dense(3, "softmax")], name="head")
        return keras.Model(x, head(y))
    return keras.Model(x, L.Dense(3, "softmax", name="head")(y))


def sequential():
    return keras.Sequential(
        [keras.Input((6, 6, 1)), L.Conv2D(8, 3), L.Flatten(), L.Dense(3, "softmax")]
    )


def fit(epochs=2, **arguments):
    loss = "sparse_categorical_crossentropy"
    return tfmot.Fit(*data(), loss, epochs=epochs, batch_size=16, **arguments)


def kernels(model):
    return [weight for weight in model.weights if weight.name == "kernel"]


SCHEDULE = dict(
    initial_sparsity=0.0, final_sparsity=0.75, begin_step=0, end_step=12, frequency=2
)


@pytest.mark.parametrize("make", [functional, sequential])
def test_pruning_gives_back_a_sparse_model_of_the_same_kind(make):
    model = make()
    before = model.get_weights()
    train = fit()
    schedule = kopt.pruning.PolynomialDecay(**SCHEDULE)
    pruned = tfmot.prune_low_magnitude(model, schedule, train=train)
    assert type(pruned) is type(model) and pruned is not model
    assert [layer.name for layer in pruned.layers] == [y.name for y in model.layers]
    for kernel in kernels(pruned):
        assert np.mean(kernel.numpy() == 0) == pytest.approx(0.75, abs=0.03)
        # A -0 compresses less well beside 0.
        assert not np.any(np.signbit(kernel.numpy()) & (kernel.numpy() == 0))
    assert all(map(np.array_equal, before, model.get_weights()))
    assert len(train.history["loss"]) == 2
    # An ordinary model: it learns on, and the twin's weights are what it starts from.
    pruned.compile("adam", "sparse_categorical_crossentropy")
    loss = pruned.evaluate(*data(), verbose=0)
    assert loss < 1.2
    assert "TF_USE_LEGACY_KERAS" not in os.environ


def test_pruning_is_what_tfmot_does_to_a_twin():
    model = functional()
    schedule = theirs().sparsity.keras.PolynomialDecay(**SCHEDULE)

    def train(older, callbacks):
        older.compile(tf_keras().optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        older.fit(*data(), shuffle=False, verbose=0, callbacks=callbacks)

    pruned = tfmot.prune_low_magnitude(model, schedule, train=train)
    sparsity = theirs().sparsity.keras
    twin = sparsity.prune_low_magnitude(tfmot.to_tf_keras(model), schedule)
    train(twin, [sparsity.UpdatePruningStep()])
    twin = tfmot.from_tf_keras(sparsity.strip_pruning(twin))
    for one, other in zip(pruned.weights, twin.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_masks_hold_after_a_loop_without_epochs():
    def loop(model, callbacks):
        loss = tf_keras().losses.SparseCategoricalCrossentropy()
        model.compile(tf_keras().optimizers.SGD(0.1), loss)
        for callback in callbacks:
            callback.set_model(model)
            callback.on_train_begin()
        for _ in range(3):
            for callback in callbacks:
                callback.on_train_batch_begin(0)
            model.train_on_batch(*data())

    schedule = kopt.pruning.ConstantSparsity(0.5, begin_step=0, frequency=1)
    pruned = tfmot.prune_low_magnitude(sequential(), schedule, train=loop)
    for kernel in kernels(pruned):
        assert np.mean(kernel.numpy() == 0) == 0.5


def test_only_the_chosen_layers_are_pruned():
    schedule = kopt.pruning.ConstantSparsity(0.5, begin_step=0, frequency=1)
    model = functional()
    arguments = dict(train=fit(1), layers=["conv", model.get_layer("shared")])
    pruned = tfmot.prune_low_magnitude(model, schedule, **arguments)
    sparse = {kernel.path for kernel in kernels(pruned) if not np.all(kernel.numpy())}
    assert sparse == {"conv/kernel", "shared/kernel"}


@pytest.mark.parametrize("init", ["linear", "KMEANS_PLUS_PLUS"])
def test_clustering_gives_back_few_values(init):
    model = functional()
    clustered = tfmot.cluster_weights(model, 4, init, train=fit())
    for kernel in kernels(clustered):
        assert len(np.unique(kernel)) <= 4
    moved = zip(kernels(model), kernels(clustered), strict=True)
    assert all(len(np.unique(before)) > 4 for before, _ in moved)


def test_clustering_keeps_zeros_and_takes_tfmots_constants():
    model = sequential()
    for kernel in kernels(model):
        kernel.assign(np.where(np.abs(kernel) < 0.1, 0.0, kernel))
    zeros = [np.mean(kernel.numpy() == 0) for kernel in kernels(model)]
    init = theirs().clustering.keras.CentroidInitialization.DENSITY_BASED
    clustered = tfmot.cluster_weights(
        model, 6, init, preserve_sparsity=True, layers=lambda y: isinstance(y, L.Dense)
    )
    dense = kernels(clustered)[1]
    assert len(np.unique(dense)) <= 6
    assert np.mean(dense.numpy() == 0) >= zeros[1] > 0.2
    np.testing.assert_array_equal(*[kernels(m)[0] for m in (clustered, model)])


def test_quantization_ends_in_a_file_that_is_its_model(tmp_path):
    model, path = functional(nested=False), tmp_path / "model.tflite"
    train = fit(40, learning_rate=1e-2)
    found = tfmot.quantize_model(model, path, train=train)
    assert found.path == path and found.size_bytes == path.stat().st_size
    assert found.float_tensors == () and found.samples == 100
    assert found.agreement > 0.95 and found.mean_difference < 0.02
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.tflite"]
    x, y = data()
    file = kopt.export.Interpreter(path)
    assert np.mean(file.predict(x).argmax(-1) == y) > 0.8
    np.testing.assert_allclose(file.predict(x), found.model(x), atol=0.1)
    assert "model.tflite" in str(found)


def test_quantization_of_chosen_layers_leaves_the_others_in_float(tmp_path):
    found = tfmot.quantize_model(
        functional(nested=False),
        tmp_path / "model.tflite",
        train=fit(10, learning_rate=1e-2),
        layers=["dense"],
        samples=data()[0][:7],
    )
    assert found.float_tensors and found.samples == 7


def test_a_file_that_was_there_stays_if_the_new_one_is_wrong(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    predict = kopt.export.Interpreter.predict
    monkeypatch.setattr(
        kopt.export.Interpreter, "predict", lambda self, x: 1 - predict(self, x)
    )
    with pytest.raises(kopt.export.ConversionError, match="does not compute"):
        tfmot.quantize_model(functional(nested=False), path, train=fit(1))
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.tflite"]
    assert path.read_bytes() == b"old"


def test_what_tfmot_refuses_is_said_with_the_way_out(tmp_path):
    with pytest.raises(ValueError, match=r"inside another.*with `layers`"):
        tfmot.quantize_model(functional(), tmp_path / "m.tflite", train=fit())
    model = keras.Sequential([keras.Input((4,)), L.Rescaling(2.0), L.Dense(3)])
    with pytest.raises(ValueError, match=r"PruneRegistry.*kopt's own verb"):
        tfmot.prune_low_magnitude(model, train=fit())


def test_a_function_that_does_not_train_is_noticed():
    with pytest.raises(ValueError, match="No step was made"):
        tfmot.prune_low_magnitude(sequential(), train=lambda model, callbacks: None)
