"""Gradients by layer, and which layers are named."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kopt
from kopt.callbacks import GradientMonitor, _gradient_signs
from kopt.callbacks._probe import Measured, Probe, kernels_of
from tests.callbacks import networks

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X[:, :2] * 2.0


def small(optimizer=None, **arguments):
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(6, name="low"), layers.BatchNormalization()]
    parts += [layers.ReLU(), layers.Dropout(0.3), layers.Dense(2, name="high")]
    model = keras.Sequential([keras.Input((4,)), *parts])
    model.compile(optimizer or kopt.Adam(0.01), "mse", metrics=["mae"], **arguments)
    return model


def fit(model, *callbacks, data=(X, Y), **arguments):
    arguments = {"batch_size": 8, "verbose": 0, "shuffle": False, **arguments}
    return model.fit(*data, callbacks=callbacks, **arguments).history


def watched(model, x, y, epochs=2, optimizer=None, **arguments):
    model.compile(optimizer or keras.optimizers.Adam(1e-3), LOSS, **arguments)
    monitor = GradientMonitor((x, y))
    fit(model, monitor, data=(x, y), epochs=epochs, batch_size=16)
    return monitor


LOSS = "sparse_categorical_crossentropy"


def named(monitor):
    """The names of layers by the kind of finding."""
    return {
        finding.kind: [layer.split("/")[-1] for layer in finding.layers]
        for finding in monitor.diagnosis.findings
    }


@pytest.mark.parametrize(
    "arguments",
    [{}, {"steps_per_execution": 2}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=str,
)
def test_the_run_is_the_same_with_and_without(arguments):
    plain, watched = small(**arguments), small(**arguments)
    wanted = fit(plain, epochs=2)
    monitor = GradientMonitor((X, Y), every=2)
    assert fit(watched, monitor, epochs=2) == wanted
    for one, same in zip(plain.variables, watched.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), same.numpy())
    assert monitor.steps == [0, 2, 4, 6, 8]


def test_gradients_are_those_of_the_probe_batch():
    model = small(kopt.SGD(0.0))
    model.layers[3].rate = 0.0
    monitor = GradientMonitor((X, Y), samples=16)
    fit(model, monitor)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X[:16], training=True) - Y[:16]) ** 2)
    kernels = [model.get_layer(name).kernel for name in ("low", "high")]
    found = tape.gradient(loss, [kernel.value for kernel in kernels])
    for place, (gradient, kernel) in enumerate(zip(found, kernels, strict=True)):
        norms = [np.linalg.norm(one) for one in (gradient, kernel)]
        np.testing.assert_allclose(monitor.gradients[0][place], norms[0], rtol=1e-5)
        np.testing.assert_allclose(monitor.weights[0][place], norms[1], rtol=1e-5)
    assert [layer.split("/")[-1] for layer in monitor.layers] == ["low", "high"]


@pytest.mark.parametrize("accumulation", [None, 3])
def test_an_update_of_gradient_descent_is_as_long_as_rate_times_gradient(accumulation):
    optimizer = kopt.SGD(0.25, gradient_accumulation_steps=accumulation)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile(optimizer, "mse")
    monitor = GradientMonitor((X, Y))
    batches = [np.concatenate([one] * 3) for one in (X, Y)]
    fit(model, monitor, data=batches, batch_size=32)
    wanted = 0.25 * monitor.gradients[0] / monitor.weights[0]
    np.testing.assert_allclose(monitor.updates[0], wanted, rtol=1e-4)
    assert np.isnan(monitor.updates[-1]).all()


def test_loss_scaling_is_no_part_of_a_gradient():
    plain, scaled = GradientMonitor((X, Y)), GradientMonitor((X, Y))
    fit(small(kopt.SGD(0.01)), plain)
    optimizer = keras.optimizers.LossScaleOptimizer(kopt.SGD(0.01))
    fit(small(optimizer), scaled)
    np.testing.assert_allclose(scaled.gradients[0], plain.gradients[0], rtol=1e-4)


def test_units_that_no_sample_reaches_are_dead():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, "relu", name="low")])
    model.add(layers.Dense(2, name="high"))
    model.compile(kopt.SGD(0.0), "mse")
    model.get_layer("low").bias.assign([9.0, -9.0, -9.0, -9.0])
    monitor = GradientMonitor((X, Y))
    fit(model, monitor)
    np.testing.assert_allclose(monitor.dead[-1], [0.75, 0.0])
    assert named(monitor) == {"dead units": ["low"]}


def test_tokens_that_do_not_come_up_are_not_dead():
    parts = [layers.Embedding(50, 4), layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,), dtype="int32"), *parts])
    model.compile(kopt.SGD(0.0), "mse")
    tokens = np.random.default_rng(0).integers(0, 9, (32, 3))
    monitor = GradientMonitor((tokens, Y))
    fit(model, monitor, data=(tokens, Y))
    np.testing.assert_array_equal(monitor.dead[-1], [0.0, 0.0])


def test_thirty_sigmoids_vanish_from_the_input_on():
    monitor = watched(*networks.sigmoids())
    (layers,) = named(monitor).values()
    assert list(named(monitor)) == ["vanishing gradients"]
    # All but the last few, in one piece.
    assert layers == [f"hidden_{place}" for place in range(len(layers))]
    assert 18 <= len(layers) <= 28
    said = monitor.summary()
    assert "Gradients vanish in" in said and "since step 0" in said
    assert "hidden_0" in said and "relu" in said


def test_too_large_kernels_explode_everywhere():
    monitor = watched(*networks.growing(), optimizer=keras.optimizers.SGD(0.0))
    assert named(monitor)["exploding gradients"][:12] == [
        f"hidden_{place}" for place in range(12)
    ]
    assert "global_clipnorm" in monitor.summary()


def test_backwards_it_is_the_first_layers_that_explode():
    monitor = watched(*networks.growing_backwards(), optimizer=kopt.SGD(0.0))
    found = named(monitor)
    assert list(found) == ["exploding gradients"]
    first = found["exploding gradients"]
    assert "head" not in first and "hidden_1" in first and "hidden_19" not in first


GOOD = {
    "rectified": networks.rectified,
    "residual": networks.residual,
    "transformer": networks.transformer,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_good_networks_are_not_named(name):
    monitor = watched(*GOOD[name]())
    assert monitor.diagnosis.findings == ()
    assert "Nothing is wrong" in monitor.summary()


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(2, marks=pytest.mark.slow),
        pytest.param(20, marks=pytest.mark.thorough),
    ],
)
@pytest.mark.parametrize("name", ["residual", "transformer", "mobilenet"])
def test_they_are_not_named_with_any_seed(name, seeds):
    # One trace for all: the seeds draw other weights into the same network.
    model, x, y = getattr(networks, name)()
    model.compile(keras.optimizers.Adam(1e-3), LOSS)
    kernels = kernels_of(model)
    names, probe = (
        [kernel.layer for kernel in kernels],
        Probe(model, (x, y), 32, kernels),
    )
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        model.set_weights(keras.models.clone_model(model).get_weights())
        measurements = [probe.measure()]
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
        measurements.append(probe.measure())
        found = _gradient_signs.findings(names, [0, 8], measurements)
        assert found == (), (seed, found)


def measured(gradients, loss=1.0, weights=None, dead=None):
    gradients = np.array(gradients, float)
    zeros = np.zeros(len(gradients))
    return Measured(
        loss,
        gradients,
        zeros + 1.0 if weights is None else np.array(weights, float),
        zeros if dead is None else np.array(dead, float),
    )


NAMES = ["a", "b", "c", "d", "e"]


def kinds(*series):
    steps = [100 * place for place in range(len(series))]
    found = _gradient_signs.findings(NAMES, steps, series)
    return {one.kind: (one.layers, one.since) for one in found}


def test_the_rules_on_plain_numbers():
    good = measured([1.0, 0.5, 2.0, 1.0, 0.3])
    assert kinds(good, good) == {}
    small = measured([1e-9, 0.5, 2.0, 1.0, 0.3])
    assert kinds(small) == {"vanishing gradients": (("a",), 0)}
    large = measured([500.0, 200.0, 2.0, 1.0, 0.3])
    assert kinds(large) == {"exploding gradients": (("a", "b"), 0)}
    dead = measured([1.0] * 5, dead=[0.0, 0.8, 0.5, 0.0, 0.0])
    assert kinds(dead) == {"dead units": (("b",), 0)}
    broken = measured([np.nan, np.inf, 1.0, 1.0, 1.0])
    assert kinds(broken)["gradients that are not finite"] == (("a", "b"), 0)


def test_all_gradients_small_together_are_a_minimum_and_nothing_else():
    assert kinds(measured([1e-9] * 5)) == {}
    assert kinds(measured([1e-9, 1e-9, 1e-2, 1e-2, 1e-2], loss=1e-6)) == {}


def test_a_kernel_that_begins_at_zero_is_not_named():
    assert kinds(measured([1.0, 0.0, 1.0, 1.0, 1.0], weights=[1, 0, 1, 1, 1])) == {}
    assert kinds(measured([1.0, 5.0, 1.0, 1.0, 1.0], weights=[1, 0, 1, 1, 1])) == {}


def test_what_was_once_so_is_not_named():
    good, small = measured([1.0] * 5), measured([1e-9, 1.0, 1.0, 1.0, 1.0])
    assert kinds(small, small, good) == {}
    assert kinds(good, good, good, small) == {}
    assert kinds(good, good, small, small) == {"vanishing gradients": (("a",), 200)}


def test_the_table_has_a_line_a_layer():
    monitor = GradientMonitor((X, Y))
    fit(small(), monitor)
    lines = monitor.table().splitlines()
    assert len(lines) == 3 and lines[0].split() == [
        "layer",
        "gradient",
        "update",
        "dead",
        "units",
    ]
    assert "low" in lines[1] and "high" in lines[2]


def test_the_plot_has_a_point_a_layer_and_marks_those_named():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monitor = watched(*networks.sigmoids(), epochs=1)
    axes = monitor.plot()
    labels = axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == monitor.layers
    red = [label.get_text() for label in labels if label.get_color() == "C3"]
    assert red == list(monitor.diagnosis.findings[0].layers)
    pyplot.close("all")


def test_measurements_go_on_where_a_backup_had_them():
    monitor, other = GradientMonitor((X, Y), every=2), GradientMonitor((X, Y), every=2)
    states = []

    class Keep(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            states.append(monitor.get_state())

    fit(small(), Keep(), monitor)
    other.layers = monitor.layers
    other.set_state(states[0])
    np.testing.assert_array_equal(
        other.gradients, monitor.gradients[: len(other.steps)]
    )
    assert other.steps == monitor.steps[: len(other.steps)]


def test_replicas_give_the_gradients_of_the_probe(two_replicas):
    found = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = small(kopt.SGD(0.01))
        monitor = GradientMonitor((X, Y))
        fit(model, monitor)
        found.append(monitor.gradients[0])
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_model_without_kernels_to_train_is_an_error_at_once():
    model = small()
    model.trainable = False
    with pytest.raises(ValueError, match="no kernel that is trained"):
        fit(model, GradientMonitor((X, Y)))


def test_data_without_samples_are_an_error_at_once():
    with pytest.raises(ValueError, match="`data` has no samples"):
        fit(small(), GradientMonitor((X[:0], Y[:0])))


def test_before_a_fit_there_is_nothing_to_tell():
    monitor = GradientMonitor((X, Y))
    for ask in (monitor.summary, monitor.table, monitor.plot):
        with pytest.raises(ValueError, match="measured nothing yet"):
            ask()


@pytest.mark.parametrize("name", ["every", "samples"])
def test_wrong_arguments_are_refused_at_once(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
        GradientMonitor((X, Y), **{name: 0})
