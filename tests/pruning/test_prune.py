import keras
import numpy as np
import pytest

from kopt import pruning
from kopt.pruning import ConstantSparsity, prune_low_magnitude
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
from tests.reference import pruning as reference


class Subclassed(keras.Model):
    """Everything that a model can hold, out of sight of a functional graph."""

    def __init__(self):
        super().__init__()
        self.embed = layers.Embedding(16, 8)
        self.attend = layers.MultiHeadAttention(2, 4)
        self.remember = layers.GRU(8, return_sequences=True)
        self.shared = layers.Dense(8)
        self.nested = keras.Sequential([keras.Sequential([layers.Dense(3)])])

    def call(self, x):
        x = self.embed(x)
        x = self.attend(x, x) + self.remember(x)
        return self.nested(self.shared(self.shared(x)))


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same"),
            layers.DepthwiseConv2D(3),
            layers.SeparableConv2D(8, 3),
            layers.Conv2DTranspose(4, 2),
            layers.Reshape((25, 4)),
            layers.EinsumDense("abc,cde->abde", (None, 2, 2)),
        ]
    )


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 5), "int32"))
    return model


@pytest.mark.parametrize("build", [convolutional, subclassed])
def test_every_kernel_of_a_model_gets_the_sparsity(build):
    model = prune_low_magnitude(build(), at_once(0.75))
    report = pruning.sparsity_report(model)
    assert all(weight.pruned for weight in report.weights)
    for weight in report.weights:
        kept = reference.kept_count(weight.size, 0.75)
        assert weight.zeros == weight.size - kept, weight.path


def test_the_model_is_the_same_object_of_the_same_kind():
    model = mlp()
    assert prune_low_magnitude(model, at_once()) is model
    assert isinstance(model, keras.Sequential)
    assert len(model.weights) == 4
    assert model.count_params() == mlp().count_params()


def test_masks_of_the_first_step_are_there_before_training():
    model = mlp()
    dense = model.layers[0].kernel.numpy()
    prune_low_magnitude(model, at_once(0.5))
    expected = reference.unstructured(dense, 0.5)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy() != 0, expected)
    np.testing.assert_array_equal(
        model.layers[0].kernel.numpy()[expected], dense[expected]
    )


def test_nothing_is_pruned_before_the_schedule_begins():
    model = prune_low_magnitude(mlp(), ConstantSparsity(0.5, 4, frequency=100))
    model.compile("sgd", "mse")
    x, y = data()
    for step, expected in enumerate([0.0, 0.0, 0.0, 0.5]):
        assert set(sparsities(model)) == {expected}, step
        model.train_on_batch(x, y)


def test_a_pruned_weight_can_come_back():
    model = mlp()
    prune_low_magnitude(model, ConstantSparsity(0.5, 1, frequency=1))
    before = model.layers[0].kernel.numpy() != 0
    model.compile(keras.optimizers.Adam(0.05), "mse")
    train(model)
    after = model.layers[0].kernel.numpy() != 0
    assert (after & ~before).any()
    assert after.sum() == before.sum()


def test_a_global_budget_takes_more_from_the_smaller_weights():
    model = mlp()
    model.layers[1].kernel.assign(model.layers[1].kernel * 10)
    prune_low_magnitude(model, at_once(0.5), scope="global")
    first, second = sparsities(model)
    assert first > 0.6
    assert second < 0.2
    assert pruning.sparsity_report(model).sparsity == 0.5


def test_a_global_budget_holds_while_training_moves_it_between_layers():
    model = pruned_mlp(scope="global")
    first = sparsities(model)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    train(model)
    assert pruning.sparsity_report(model).sparsity == 0.5
    assert sparsities(model)[0] != pytest.approx(first[0], abs=0.02)
    assert steps(model) == [19]


def test_layers_can_be_pruned_by_schedules_of_their_own():
    model = mlp()
    prune_low_magnitude(model, at_once(0.25), layers=["dense"])
    prune_low_magnitude(model, at_once(0.75), layers=["dense_1"])
    assert sparsities(model) == [0.25, 0.75]


def test_a_function_serves_as_a_schedule():
    model = prune_low_magnitude(mlp(), lambda step: (step == 1, 0.5))
    assert sparsities(model) == [0.5, 0.5]
    model.compile("sgd", "mse")
    assert sparsities(train(model)) == [0.5, 0.5]


def test_half_of_the_weights_go_at_step_100_by_default():
    model = prune_low_magnitude(mlp())
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="Nothing is pruned yet.*at step 100"):
        train(model, epochs=16)
    assert sparsities(model) == [0.0, 0.0]
    assert sparsities(train(model, epochs=1)) == [0.5, 0.5]


def test_a_model_that_was_trained_before_need_not_be_compiled_again():
    model = mlp()
    model.compile("sgd", "mse")
    train(model)
    prune_low_magnitude(model, at_once())
    assert sparsities(train(model)) == [0.5, 0.5]


def test_a_constraint_that_was_there_still_holds():
    model = prune_low_magnitude(mlp("unit_norm"), growing())
    model.compile(keras.optimizers.SGD(0.5), "mse")
    train(model)
    kernel = model.layers[0].kernel.numpy()
    assert np.mean(kernel == 0) == 0.5
    norms = np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(norms[norms > 0], 1, rtol=1e-5)


def test_a_constraint_that_moves_zeros_does_not_fill_them():
    model = prune_low_magnitude(mlp(lambda weights: weights + 1.0), at_once())
    model.compile("sgd", "mse")
    assert sparsities(train(model))[0] == 0.5


def test_weights_are_chosen_by_what_their_constraint_makes_of_them():
    model = mlp("non_neg")
    kernel = np.linspace(-1, 0.9, 96, dtype="float32").reshape(6, 16)
    model.layers[0].kernel.assign(kernel)
    prune_low_magnitude(model, at_once(0.75), layers=["dense"])
    kept = model.layers[0].kernel.numpy()
    np.testing.assert_array_equal(np.sort(kept[kept != 0]), np.sort(kernel, None)[-24:])


def test_a_model_of_the_older_keras_is_refused():
    class Model:
        __module__ = "tf_keras.src.engine.sequential"

    with pytest.raises(TypeError, match="older tf_keras"):
        prune_low_magnitude(Model(), at_once())


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="Build it first"):
        prune_low_magnitude(keras.Sequential([layers.Dense(2)]), at_once())


def test_nan_weights_are_refused():
    model = mlp()
    model.layers[1].kernel.assign(model.layers[1].kernel * np.nan)
    with pytest.raises(ValueError, match=r"NaN or infinite .*dense_1/kernel"):
        prune_low_magnitude(model, at_once())


def test_blocks_that_do_not_fit_are_refused_with_the_weights():
    with pytest.raises(
        ValueError, match=r"sequential/dense/kernel \(6, 16\).*`layers`"
    ):
        prune_low_magnitude(mlp(), at_once(), block_size=(4, 1))


def test_pruning_twice_is_refused():
    with pytest.raises(ValueError, match=r"pruned already: sequential/dense/kernel"):
        prune_low_magnitude(pruned_mlp(), at_once())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(scope="layer"), ValueError, "'local', 'global'"),
        (dict(scope="global", sparsity_m_by_n=(2, 4)), ValueError, "must be 'local'"),
        (dict(pruning_schedule=0.5), TypeError, "PolynomialDecay, a ConstantSparsity"),
        (dict(pruning_schedule=lambda: 0.5), ValueError, "Calling it with step 1"),
        (dict(pruning_schedule=lambda step: 0.5), ValueError, "Calling it with step 1"),
        (dict(pruning_schedule=lambda step: (True, 1.0)), ValueError, "less than 1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        prune_low_magnitude(mlp(), **arguments)


def test_a_refused_model_is_left_as_it_was():
    model = mlp()
    with pytest.raises(ValueError, match="block_size"):
        prune_low_magnitude(model, at_once(), block_size=(4, 1))
    assert type(model) is keras.Sequential
    assert all(variable.constraint is None for variable in model.weights)
