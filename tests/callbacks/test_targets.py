import keras
import pytest

import kopt
from kopt.callbacks import _targets


class Block(keras.layers.Layer):
    """A layer with layers inside, of which Keras's public names show nothing."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.dense = keras.layers.Dense(3, name="dense")
        self.drop = kopt.layers.Dropout(0.2, name="drop")

    def call(self, inputs):
        return self.drop(self.dense(inputs))


def compiled(*layers, optimizer="sgd"):
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss="mse")
    return model


def test_layers_inside_of_layers_are_found():
    block, inner = Block(name="block"), kopt.layers.DropPath(0.1, name="path")
    model = compiled(block, keras.Sequential([inner]))
    both = _targets.find(model, "*/rate")
    assert {id(variable) for variable in both} == {
        id(block.drop._rate),
        id(inner._rate),
    }
    assert _targets.find(model, "block/drop/rate") == [block.drop._rate]
    assert _targets.find(model, "path/rate") == [inner._rate]


def test_a_name_matches_whole_words_of_a_path():
    dropout = kopt.layers.Dropout(0.1, name="dropout")
    model = compiled(dropout, keras.layers.Dense(1))
    with pytest.raises(ValueError, match=r"It has: '(.*/)?dropout/rate'"):
        _targets.find(model, "out/rate")


def test_a_regularizer_shared_by_layers_is_found_once():
    regularizer = kopt.regularizers.L1(0.1)
    model = compiled(
        *(keras.layers.Dense(3, kernel_regularizer=regularizer) for _ in range(2))
    )
    assert _targets.find(model, "*/regularizer/*") == [regularizer._l1]


def test_a_regularizer_of_activities_is_found():
    regularizer = kopt.regularizers.L1(0.1)
    model = compiled(keras.layers.Dense(3, activity_regularizer=regularizer, name="a"))
    assert _targets.find(model, "a/activity_regularizer/l1") == [regularizer._l1]


def test_rates_of_keras_are_refused_with_the_reason():
    model = compiled(keras.layers.Dropout(0.5), keras.layers.Dense(1))
    with pytest.raises(ValueError, match=r"as Python numbers.*kopt\.layers"):
        _targets.find(model, "*/rate")


def test_weights_are_no_hyper_parameters():
    model = compiled(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="No scalar variable"):
        _targets.find(model, "*/kernel")
    with pytest.raises(ValueError, match="not trainable"):
        _targets.find(model, lambda m: m.layers[0].kernel)


def test_a_number_that_the_step_has_copied_is_refused_with_the_reason():
    optimizer = keras.optimizers.SGD(momentum=0.9)
    model = compiled(keras.layers.Dense(1), optimizer=optimizer)
    with pytest.raises(ValueError, match=r"SGD\.momentum is the Python number 0\.9"):
        _targets.find(model, "momentum")


def test_an_unknown_name_lists_what_there_is():
    model = compiled(keras.layers.Dense(1), optimizer=kopt.SGD(0.1, momentum=0.9))
    with pytest.raises(ValueError, match=r"It has: 'learning_rate', 'momentum'"):
        _targets.find(model, "beta_1")


def test_a_model_that_is_not_built_can_be_driven_by_its_learning_rate_only():
    model = keras.Sequential([kopt.layers.Dropout(0.1), keras.layers.Dense(1)])
    model.compile(kopt.SGD(0.1, momentum=0.9), "mse")
    (rate,) = _targets.find(model, "learning_rate")
    assert float(rate) == pytest.approx(0.1)
    for target in ("momentum", "*/rate"):
        with pytest.raises(ValueError, match="must be a built model"):
            _targets.find(model, target)


def test_a_function_that_finds_nothing_is_refused():
    model = compiled(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="returned no variable"):
        _targets.find(model, lambda m: [])


def test_a_model_without_an_optimizer_is_refused():
    with pytest.raises(ValueError, match="has no optimizer"):
        _targets.find(keras.Sequential([keras.layers.Dense(1)]), "learning_rate")


def test_batches_are_counted_between_two_updates():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=4)
    model = compiled(keras.layers.Dense(1), optimizer=optimizer)
    data = keras.ops.ones((6, 3)), keras.ops.ones((6, 1))
    model.fit(*data, batch_size=1, verbose=0)
    assert _targets.batches_seen(optimizer) == 6
    assert int(optimizer.iterations) == 1
