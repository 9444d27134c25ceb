"""Pruned models are saved, loaded and go on as if they had never stopped."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from kopt import pruning
from kopt.pruning import prune_low_magnitude, strip_pruning
from tests.pruning.nets import (
    at_once,
    data,
    growing,
    layers,
    mlp,
    pruned_mlp,
    sparsities,
    steps,
    train,
)
from tests.sampling import sampled


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, units=8, **arguments):
        super().__init__(**arguments)
        self.units = units
        self.split = layers.Reshape((3, 2))
        self.attend = layers.MultiHeadAttention(2, units)
        self.out = keras.Sequential([layers.Flatten(), layers.Dense(3)])

    def call(self, x):
        x = self.split(x)
        return self.out(self.attend(x, x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6)))
    return model


def functional():
    inputs, shared = keras.Input((6,)), layers.Dense(6, kernel_constraint="max_norm")
    hidden = shared(shared(inputs)) + keras.Sequential([layers.Dense(6)])(inputs)
    return keras.Model(inputs, layers.Dense(3)(hidden))


BUILDS = [mlp, functional, subclassed]


def same_weights(first, second):
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    for mine, other in pairs:
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    ("build", "scope"),
    sampled(
        [(build, scope) for build in BUILDS for scope in ("local", "global")],
        [(functional, "local"), (subclassed, "global")],
    ),
)
def test_training_goes_on_bit_for_bit_after_loading(build, scope, tmp_path):
    model = prune_low_magnitude(build(), growing(end_step=17), scope=scope)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    train(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, type(build()))
    assert steps(loaded) == steps(model)
    same_weights(train(loaded, epochs=2), train(model, epochs=2))
    assert sparsities(loaded) == sparsities(model)


def test_weights_that_are_kept_though_they_are_zero_can_move_after_loading(tmp_path):
    model = prune_low_magnitude(mlp(), pruning.ConstantSparsity(0.5, 1, 1))
    kernel = model.layers[0].kernel
    kernel.assign(np.zeros(kernel.shape))
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    loaded = train(keras.saving.load_model(tmp_path / "model.keras"), epochs=1)
    assert np.any(loaded.layers[0].kernel.numpy() != 0)
    same_weights(loaded, train(model, epochs=1))


@pytest.mark.parametrize("build", sampled(BUILDS, [subclassed]))
def test_a_weights_file_brings_masks_and_steps_along(build, tmp_path):
    def fresh():
        keras.utils.set_random_seed(1)
        model = prune_low_magnitude(build(), growing(end_step=17))
        model.compile(keras.optimizers.SGD(0.5), "mse")
        return model

    path = tmp_path / "model.weights.h5"
    model = train(fresh(), epochs=1)
    model.save_weights(path)
    loaded = fresh()
    loaded.load_weights(path)
    assert steps(loaded) == steps(model)
    same_weights(train(loaded, epochs=1), train(model, epochs=1))


def test_weights_of_a_pruned_model_load_into_a_plain_one(tmp_path):
    pruned, plain = pruned_mlp(), mlp()
    pruned.save_weights(tmp_path / "model.weights.h5")
    plain.load_weights(tmp_path / "model.weights.h5")
    same_weights(plain, pruned)


def test_weights_without_masks_are_refused_with_what_to_do(tmp_path):
    mlp().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="no pruning masks"):
        pruned_mlp().load_weights(tmp_path / "model.weights.h5")


def test_masks_of_other_weights_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    prune_low_magnitude(mlp(), at_once(), layers=["dense"]).save_weights(path)
    with pytest.raises(ValueError, match="1 masks in 1 groups, the model 2 in 2"):
        pruned_mlp().load_weights(path)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_from_its_backup(tmp_path):
    class Interrupted(Exception):
        pass

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Interrupted

    def fresh():
        keras.utils.set_random_seed(1)
        model = prune_low_magnitude(mlp(), growing(end_step=17))
        model.compile(keras.optimizers.Adam(0.05), "mse")
        return model

    def fit(model, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        x, y = data()
        arguments = dict(batch_size=8, epochs=3, shuffle=False, verbose=0)
        model.fit(x, y, callbacks=[backup, *callbacks], **arguments)

    with pytest.raises(Interrupted):
        fit(fresh(), Interrupt())
    resumed = fresh()
    fit(resumed)
    same_weights(resumed, train(fresh(), epochs=3))


def test_a_pruned_model_inside_another_is_saved_with_it(tmp_path):
    inner = pruned_mlp()
    outer = keras.Sequential([keras.Input((6,)), inner, layers.Dense(3)])
    outer.compile(keras.optimizers.Adam(0.05), "mse")
    train(outer, epochs=1)
    outer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert steps(loaded.layers[0]) == steps(inner) == [7, 7]
    same_weights(train(loaded, epochs=1), train(outer, epochs=1))
    assert sparsities(loaded) == [0.5, 0.5]


def test_every_call_of_prune_is_saved(tmp_path):
    model = mlp()
    prune_low_magnitude(model, at_once(0.25), layers=["dense"])
    prune_low_magnitude(model, layers=["dense_1"], sparsity_m_by_n=(2, 4))
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert sparsities(train(loaded)) == sparsities(train(model)) == [0.25, 0.5]


def test_a_schedule_that_keras_cannot_save_is_named(tmp_path):
    class Schedule:
        def __call__(self, step):
            return step == 1, 0.5

    model = prune_low_magnitude(mlp(), Schedule())
    with pytest.raises(TypeError, match="Schedule"):
        model.save(tmp_path / "model.keras")


def test_a_clone_is_a_plain_model():
    clone = keras.models.clone_model(pruned_mlp())
    assert type(clone) is keras.Sequential
    assert clone.layers[0].kernel.constraint is None


def test_a_model_comes_back_from_its_own_config():
    model = pruned_mlp()
    again = type(model).from_config(model.get_config())
    assert sparsities(again) == sparsities(model)


def test_a_checkpoint_of_tensorflow_brings_masks_and_steps_along(tmp_path):
    model = pruned_mlp()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    train(model, epochs=1)
    saved = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    loaded = pruned_mlp()
    loaded.compile(keras.optimizers.SGD(0.5), "mse")
    tf.train.Checkpoint(model=loaded).restore(saved)
    assert steps(loaded) == steps(model)
    same_weights(train(loaded, epochs=1), train(model, epochs=1))


def test_an_exported_model_holds_no_masks(tmp_path):
    def exported_shapes(model, name):
        model.export(tmp_path / name, verbose=False)
        files = tmp_path / name / "variables" / "variables"
        return sorted(shape for _, shape in tf.train.list_variables(str(files)))

    assert exported_shapes(pruned_mlp(), "pruned") == exported_shapes(mlp(), "plain")


def in_a_fresh_process(code, *arguments):
    program = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_a_fresh_process_loads_a_pruned_model_and_goes_on(tmp_path):
    model = prune_low_magnitude(functional(), growing(end_step=17))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    train(model, epochs=1)
    model.save(tmp_path / "model.keras")
    x, y = data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    printed = in_a_fresh_process(
        """
        import sys, numpy as np, keras, kopt
        model = keras.saving.load_model(sys.argv[1] + "/model.keras")
        data = np.load(sys.argv[1] + "/data.npz")
        options = dict(batch_size=8, epochs=2, shuffle=False, verbose=0)
        model.fit(data["x"], data["y"], **options)
        print(kopt.pruning.sparsity_report(model).zeros)
        """,
        tmp_path,
    )
    train(model, epochs=2)
    assert printed == [str(pruning.sparsity_report(model).zeros)]


@pytest.mark.slow
def test_a_stripped_model_loads_without_kopt(tmp_path):
    model = strip_pruning(prune_low_magnitude(functional(), at_once(0.75)))
    model.save(tmp_path / "model.keras")
    printed = in_a_fresh_process(
        """
        import sys, keras
        model = keras.saving.load_model(sys.argv[1])
        zeros = [int((w.numpy() == 0).sum()) for w in model.weights if w.ndim > 1]
        print(*zeros, "kopt" in sys.modules)
        """,
        tmp_path / "model.keras",
    )
    assert printed == ["27", "27", "14", "False"]
