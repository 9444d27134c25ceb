"""Sharpness-aware models are saved, loaded and go on as if they had never stopped."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt
from tests.sharpness.nets import (
    FEATURES,
    OUTPUTS,
    VARIANTS,
    aware,
    data,
    everything,
    fit,
    layers,
    mlp,
    same_weights,
)

pytestmark = pytest.mark.slow


@keras.saving.register_keras_serializable("tests.sharpness")
class Subclassed(keras.Model):
    def __init__(self, units=8, **arguments):
        super().__init__(**arguments)
        self.units = units
        self.normal = layers.BatchNormalization()
        self.out = keras.Sequential([layers.Dense(units), layers.Dense(OUTPUTS)])

    def call(self, x, training=False):
        return self.out(self.normal(x, training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def subclassed():
    model = Subclassed()
    inputs = keras.Input((FEATURES,))
    model(inputs)
    model.inputs = [inputs]
    return model


def undropped():
    # Keras does not save how far the seed of a dropout has come.
    return everything(rate=0.0)


def inputs_of(model):
    return getattr(model, "inputs", [None])


def train(model, epochs=1):
    """Four steps an epoch, which LookSAM's period of 3 does not divide."""
    x, y = data()
    if len(inputs_of(model) or [None]) > 1:
        x = [x, np.random.default_rng(6).integers(0, 20, (len(x), 4))]
    model.fit(x, y, batch_size=12, epochs=epochs, shuffle=False, verbose=0)
    return model


def fresh(build, variant, rho=0.2, optimizer=None):
    keras.utils.set_random_seed(1)
    model = aware(build(), variant, rho=rho)
    model.compile(optimizer or kopt.Adam(0.01), "mse", jit_compile=False)
    return model


class Halved(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, first):
        self.first = first

    def __call__(self, step):
        return self.first / (1.0 + keras.ops.cast(step, "float32"))

    def get_config(self):
        return {"first": self.first}


keras.saving.register_keras_serializable("tests.sharpness")(Halved)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("build", [mlp, undropped, subclassed])
def test_training_goes_on_bit_for_bit_after_loading(build, variant, tmp_path):
    model = train(fresh(build, variant, rho=Halved(0.5)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, type(build()))
    assert vars(loaded.kopt_sharpness.settings).keys() == {
        *("variant", "rho", "alpha", "eta", "period", "per_replica")
    }
    before = [weight.copy() for weight in model.get_weights()]
    same_weights(train(loaded), train(model))
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_loaded_model_is_sharpness_aware(tmp_path):
    model = fresh(mlp, "sam", rho=1.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    plain = keras.saving.load_model(tmp_path / "model.keras")
    kopt.strip_sharpness_aware(plain)
    pairs = zip(train(loaded).get_weights(), train(plain).get_weights(), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3


def test_a_model_comes_back_from_its_own_config():
    model = aware(mlp(), "looksam", rho=Halved(0.3), alpha=0.4)
    config = model.get_config()
    again = type(model).from_config(config)
    assert again.get_config()["carried"] == config["carried"]
    assert again.kopt_sharpness.settings.rho.first == 0.3


@pytest.mark.parametrize("build", [mlp, subclassed])
def test_a_weights_file_brings_looksams_memory_along(build, tmp_path):
    path = tmp_path / "model.weights.h5"
    model = train(fresh(build, "looksam", optimizer=kopt.SGD(0.1)))
    model.save_weights(path)
    loaded = fresh(build, "looksam", optimizer=kopt.SGD(0.1))
    loaded.load_weights(path)
    assert int(loaded.kopt_sharpness.step) == 4
    same_weights(train(loaded), train(model))


def test_weights_go_between_plain_and_aware_models(tmp_path):
    path = tmp_path / "model.weights.h5"
    model, plain = train(fresh(mlp, "looksam")), mlp()
    model.save_weights(path)
    plain.load_weights(path)
    same_weights(plain, model)
    plain.save_weights(path)
    # The next step looks, so that a direction is there when it is needed.
    model.load_weights(path)
    assert int(model.kopt_sharpness.step) == 0


def test_directions_of_other_weights_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    fresh(mlp, "looksam").save_weights(path)
    other = mlp()
    other.layers[0].trainable = False
    aware(other, "looksam")
    with pytest.raises(ValueError, match="Freeze the same layers"):
        other.load_weights(path)


def test_an_interrupted_training_goes_on_from_its_backup(tmp_path):
    class Interrupted(Exception):
        pass

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Interrupted

    def fit_with(model, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        x, y = data()
        arguments = dict(batch_size=12, epochs=3, shuffle=False, verbose=0)
        model.fit(x, y, callbacks=[backup, *callbacks], **arguments)

    with pytest.raises(Interrupted):
        fit_with(fresh(mlp, "looksam"), Interrupt())
    resumed = fresh(mlp, "looksam")
    fit_with(resumed)
    same_weights(resumed, train(fresh(mlp, "looksam"), epochs=3))


def test_a_checkpoint_of_tensorflow_brings_looksams_memory_along(tmp_path):
    model = train(fresh(mlp, "looksam"))
    saved = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    loaded = fresh(mlp, "looksam")
    tf.train.Checkpoint(model=loaded).restore(saved)
    assert int(loaded.kopt_sharpness.step) == 4
    same_weights(train(loaded), train(model))


def test_an_exported_model_holds_no_memory(tmp_path):
    def exported_shapes(model, name):
        model.export(tmp_path / name, verbose=False)
        files = tmp_path / name / "variables" / "variables"
        return sorted(shape for _, shape in tf.train.list_variables(str(files)))

    model = aware(mlp(), "looksam")
    assert exported_shapes(model, "aware") == exported_shapes(mlp(), "plain")


@pytest.mark.parametrize("aware_first", [True, False])
def test_a_pruned_model_trains_sharpness_aware_and_is_saved(aware_first, tmp_path):
    def build():
        model = aware(mlp(), "looksam") if aware_first else mlp()
        schedule = kopt.pruning.ConstantSparsity(0.5, begin_step=1)
        kopt.pruning.prune_low_magnitude(model, schedule)
        return model if aware_first else aware(model, "looksam")

    keras.utils.set_random_seed(1)
    model = build()
    model.compile(kopt.Adam(0.01), "mse", jit_compile=False)
    train(model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    same_weights(train(loaded), train(model))
    assert kopt.pruning.sparsity_report(loaded).zeros == 15 + 7
    for one in (model, loaded):
        kopt.pruning.strip_pruning(kopt.strip_sharpness_aware(one))
        train(one)
        one.save(tmp_path / "plain.keras")
        again = keras.saving.load_model(tmp_path / "plain.keras")
        assert type(again) is keras.Sequential


def test_a_quantized_model_trains_sharpness_aware_and_is_saved(tmp_path):
    x, _ = data()
    keras.utils.set_random_seed(1)
    model = kopt.quantization.quantize_model(mlp(), calibration_data=x)
    aware(model, "gsam").compile(kopt.Adam(0.01), "mse", jit_compile=False)
    train(model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    same_weights(train(loaded), train(model))


def in_a_fresh_process(code, *arguments):
    program = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_fresh_process_loads_an_aware_model_and_goes_on(tmp_path):
    model = train(fresh(mlp, "looksam"))
    model.save(tmp_path / "model.keras")
    x, y = data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    printed = in_a_fresh_process(
        """
        import sys, numpy as np, keras, kopt
        model = keras.saving.load_model(sys.argv[1] + "/model.keras")
        data = np.load(sys.argv[1] + "/data.npz")
        options = dict(batch_size=12, epochs=1, shuffle=False, verbose=0)
        model.fit(data["x"], data["y"], **options)
        print(int(model.kopt_sharpness.step), repr(float(model.get_weights()[0].sum())))
        """,
        tmp_path,
    )
    train(model)
    assert printed[0] == "8"
    assert float(printed[1]) == pytest.approx(model.get_weights()[0].sum(), abs=1e-5)


def test_a_stripped_model_loads_without_kopt(tmp_path):
    model = kopt.strip_sharpness_aware(train(fresh(mlp, "sam")))
    model.compile("sgd", "mse")  # not kopt's optimizer
    fit(model, 1)
    model.save(tmp_path / "model.keras")
    printed = in_a_fresh_process(
        """
        import sys, keras
        model = keras.saving.load_model(sys.argv[1])
        print(type(model).__name__, "kopt" in sys.modules)
        """,
        tmp_path / "model.keras",
    )
    assert printed == ["Sequential", "False"]
