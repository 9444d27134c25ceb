import keras
import pytest

import kopt


def network(**values):
    hypermodel = kopt.tuning.HyperMLP(
        values.pop("input_shape", (6,)), classes=3, level="full"
    )
    hp = hypermodel.space()
    hp.values.update(values)
    return hypermodel.build(hp)


def layers(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def units(model):
    return [layer.units for layer in layers(model, keras.layers.Dense)]


def test_depth_counts_hidden_layers_of_one_width():
    assert units(network(depth=3, width=64)) == [64, 64, 64, 3]


def test_taper_halves_down_to_the_smallest_width():
    assert units(network(depth=4, width=128, taper=True)) == [128, 64, 32, 32, 3]


def test_inputs_with_more_axes_are_flattened():
    model = network(input_shape=(2, 5), width=32, depth=1)
    assert model.count_params() == 10 * 32 + 32 + 32 * 3 + 3


def test_batch_norm_takes_the_place_of_biases():
    model = network(depth=2, batch_norm=True)
    assert len(layers(model, keras.layers.BatchNormalization)) == 2
    *hidden, last = layers(model, keras.layers.Dense)
    assert [layer.use_bias for layer in (*hidden, last)] == [False, False, True]


def test_dropout_of_zero_adds_no_layer():
    assert not layers(network(dropout=0.0), kopt.layers.Dropout)
    rates = [layer.rate for layer in layers(network(dropout=0.3), kopt.layers.Dropout)]
    assert [float(rate) for rate in rates] == pytest.approx([0.3])


def test_regularizer_is_on_hidden_kernels_only():
    model = network(depth=2, regularizer="l1", regularizer_factor=1e-4)
    *hidden, last = layers(model, keras.layers.Dense)
    assert all(
        isinstance(layer.kernel_regularizer, kopt.regularizers.L1) for layer in hidden
    )
    assert last.kernel_regularizer is None


def test_learning_rate_is_a_factor_of_the_optimizers_usual_one():
    usual = network(optimizer="sgd").optimizer
    tenth = network(optimizer="sgd", learning_rate_factor=0.1).optimizer
    assert isinstance(usual, kopt.SGD)
    assert float(tenth.learning_rate) == pytest.approx(float(usual.learning_rate) / 10)


def test_an_optimizer_that_kopt_lacks_comes_from_keras():
    hypermodel = kopt.tuning.HyperMLP((4,), classes=2, optimizers=("ftrl",))
    optimizer = hypermodel.build(hypermodel.space()).optimizer
    assert isinstance(optimizer, keras.optimizers.Ftrl)


def test_probabilities_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert network().output.dtype == "float32"
