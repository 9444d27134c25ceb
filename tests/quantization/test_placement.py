"""What is quantized where, as a table of small networks."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt.quantization import quantize_model
from kopt.quantization._placement import plan
from kopt.quantization._quantized_layer import quantized_layers
from kopt.quantization._trace import trace


def placed(model):
    """`{layer name: names of its ranges}` of the layers that change."""
    found = {
        one.layer.name: {
            *(f"input_{position}" for position in one.inputs),
            *one.inner,
            *(["preactivation"] if one.preactivation else []),
            *(["output"] if one.output else []),
        }
        for one in plan(model, trace(model))
    }
    return {name: ranges for name, ranges in found.items() if ranges}


def notes(model):
    return {one.layer.name: (one.state, one.note) for one in plan(model, trace(model))}


def chain(*stack, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *stack])


def conv(name, **arguments):
    return layers.Conv2D(4, 3, padding="same", name=name, **arguments)


def norm(name="norm"):
    return layers.BatchNormalization(name=name)


def relu(name="relu"):
    return layers.ReLU(name=name)


class TestFusing:
    def test_a_convolution_its_normalization_and_relu_are_rounded_once(self):
        found = placed(chain(conv("conv"), norm(), relu()))
        assert found == {"conv": {"input_0"}, "relu": {"output"}}

    def test_an_activation_argument_is_rounded_behind_it(self):
        found = placed(chain(conv("conv", activation="relu")))
        assert found == {"conv": {"input_0", "output"}}

    def test_a_normalization_without_relu_is_where_the_range_is(self):
        found = placed(chain(conv("conv"), norm(), conv("next")))
        assert found == {"conv": {"input_0"}, "norm": {"output"}, "next": {"output"}}

    def test_dropout_in_between_changes_nothing(self):
        found = placed(chain(conv("conv"), norm(), layers.Dropout(0.5), relu()))
        assert found == {"conv": {"input_0"}, "relu": {"output"}}

    def test_a_relu_behind_a_sum_is_computed_with_it(self):
        x = keras.Input((8, 8, 3))
        total = layers.Add(name="sum")([conv("a")(x), conv("b")(x)])
        found = placed(keras.Model(x, relu()(total)))
        assert found["relu"] == {"output"}
        assert "sum" not in found

    def test_a_normalization_behind_an_activation_stands_alone(self):
        found = placed(chain(conv("conv", activation="relu"), norm()))
        assert found == {"conv": {"input_0", "output"}, "norm": {"output"}}

    def test_a_normalization_at_the_input_has_a_range_of_its_own(self):
        found = placed(chain(norm(), conv("conv")))
        assert found == {"norm": {"input_0", "output"}, "conv": {"output"}}

    def test_a_result_that_is_used_twice_is_rounded_where_it_is_made(self):
        x = keras.Input((8, 8, 3))
        y = conv("conv")(x)
        model = keras.Model(x, layers.Add(name="sum")([norm()(y), y]))
        found = placed(model)
        assert "output" in found["conv"]
        assert "output" in found["norm"]

    def test_a_result_that_is_returned_is_rounded_where_it_is_made(self):
        x = keras.Input((8, 8, 3))
        y = conv("conv")(x)
        found = placed(keras.Model(x, [y, relu()(y)]))
        assert "output" in found["conv"]

    def test_a_result_that_a_bare_operation_uses_is_rounded_where_it_is_made(self):
        x = keras.Input((8, 8, 3))
        y = conv("conv")(x)
        found = placed(keras.Model(x, norm()(y) + y))
        assert "output" in found["conv"]

    def test_a_shared_layer_is_fused_only_if_all_its_calls_are(self):
        x = keras.Input((8, 8, 4))
        shared = conv("shared")
        model = keras.Model(x, shared(norm()(shared(x))))
        found = placed(model)
        assert "output" in found["shared"]
        assert found["norm"] == {"output"}

    def test_a_shared_block_is_fused(self):
        x = keras.Input((8, 8, 4))
        block = chain(conv("conv"), norm(), relu(), shape=(8, 8, 4))
        found = placed(keras.Model(x, block(block(x))))
        assert found == {"conv": {"input_0"}, "relu": {"output"}}

    def test_a_normalization_of_another_axis_stays_float(self):
        model = chain(conv("conv"), layers.BatchNormalization(axis=1, name="norm"))
        assert notes(model)["norm"][0] == "float"
        assert placed(model) == {"conv": {"input_0", "output"}}


class TestInputs:
    def test_the_input_is_rounded_where_it_goes_in(self):
        x = keras.Input((8, 8, 3))
        model = keras.Model(x, [conv("a")(x), conv("b")(x)])
        found = placed(model)
        assert "input_0" in found["a"]
        assert "input_0" in found["b"]

    def test_layers_that_only_move_values_are_looked_through(self):
        found = placed(
            chain(
                layers.ZeroPadding2D(name="pad"),
                layers.MaxPooling2D(),
                conv("conv"),
                layers.AveragePooling2D(2),
                layers.Flatten(),
                layers.Dense(2, name="dense"),
            )
        )
        assert found == {
            "pad": {"input_0"},
            "conv": {"output"},
            "dense": {"output"},
        }

    def test_what_leaves_a_float_layer_is_rounded_where_it_goes_in(self):
        model = chain(conv("a"), layers.LayerNormalization(name="float"), conv("b"))
        assert placed(model) == {
            "a": {"input_0", "output"},
            "b": {"input_0", "output"},
        }
        assert notes(model)["float"] == (
            "float",
            "its statistics lose too much in 8 bits",
        )

    def test_what_leaves_a_bare_operation_is_rounded_where_it_goes_in(self):
        x = keras.Input((8, 8, 3))
        model = keras.Model(x, conv("b")(keras.ops.sin(conv("a")(x))))
        assert placed(model)["b"] == {"input_0", "output"}

    def test_each_input_of_a_sum_has_its_own_range(self):
        a, b, c = (keras.Input((4,), name=name) for name in "abc")
        model = keras.Model(
            [a, b, c], layers.Dense(2)(layers.Add(name="sum")([a, b, c]))
        )
        assert placed(model)["sum"] == {
            "input_0",
            "input_1",
            "input_2",
            "sum_of_2",
            "output",
        }


class TestJoins:
    def test_branches_that_only_a_join_uses_share_its_range(self):
        x = keras.Input((8, 8, 3))
        parts = [conv("a", activation="relu")(x), norm()(conv("b")(x))]
        found = placed(keras.Model(x, layers.Concatenate(name="join")(parts)))
        assert found == {"a": {"input_0"}, "b": {"input_0"}, "join": {"output"}}

    def test_a_branch_that_is_used_elsewhere_keeps_its_range(self):
        x = keras.Input((8, 8, 3))
        a, b = conv("a")(x), conv("b")(x)
        joined = layers.Concatenate(name="join")([a, b])
        found = placed(keras.Model(x, [joined, conv("c")(a)]))
        assert "output" in found["a"]
        assert "output" not in found["b"]

    def test_an_input_of_the_model_in_a_join_is_rounded_there(self):
        x = keras.Input((8, 8, 3))
        model = keras.Model(x, layers.Concatenate(name="join")([x, conv("a")(x)]))
        assert placed(model)["join"] == {"input_0", "output"}

    def test_a_prescribed_range_is_not_given_up_for_a_join(self):
        x = keras.Input((8, 8, 3))
        parts = [conv("a", activation="sigmoid")(x), conv("b")(x)]
        found = placed(keras.Model(x, layers.Concatenate(name="join")(parts)))
        assert "output" in found["a"]


class TestActivations:
    @pytest.mark.parametrize("name", ["softmax", "sigmoid", "tanh"])
    def test_of_a_head_only_the_logits_are_rounded(self, name):
        found = placed(chain(layers.Dense(2, activation=name, name="head"), shape=(4,)))
        assert found == {"head": {"input_0", "preactivation"}}

    def test_of_a_head_that_is_a_layer_too(self):
        found = placed(
            chain(layers.Dense(2, name="logits"), layers.Softmax(), shape=(4,))
        )
        assert found == {"logits": {"input_0", "output"}}

    def test_inside_of_a_model_a_sigmoid_is_rounded_to_the_prescribed_range(self):
        model = chain(conv("gate", activation="sigmoid"), conv("next"))
        assert placed(model)["gate"] == {"input_0", "preactivation", "output"}
        plans = {one.layer.name: one for one in plan(model, trace(model))}
        assert plans["gate"].fixed_range == (0.0, 255 / 256)

    @pytest.mark.parametrize("name", ["gelu", "silu", "leaky_relu", "elu"])
    def test_others_are_rounded_before_and_behind(self, name):
        found = placed(chain(conv("conv", activation=name)))
        assert found == {"conv": {"input_0", "preactivation", "output"}}

    def test_an_activation_without_an_integer_form_is_named(self):
        model = chain(conv("conv", activation="elu"), layers.ELU(name="after"))
        assert notes(model)["conv"] == ("integer", "its activation stays float")
        assert notes(model)["after"][0] == "float"

    def test_a_relu_alone_is_rounded_on_both_sides(self):
        assert placed(chain(relu(), conv("conv")))["relu"] == {"input_0", "output"}


class TestFloat:
    def test_a_layer_that_is_not_called_stays_float(self):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.used = layers.Dense(2, name="used")
                self.spare = layers.Dense(2, name="spare")
                self.spare.build((None, 4))

            def call(self, inputs):
                return self.used(inputs)

        model = Net()
        model(np.ones((1, 4)))
        assert notes(model)["spare"] == ("float", "not called when the model predicts")
        assert placed(model) == {"used": {"input_0", "output"}}

    def test_a_layer_quantized_by_keras_stays_float(self):
        model = chain(layers.Dense(4, name="keras"), layers.Dense(2), shape=(4,))
        model.layers[0].quantize("int8")
        assert notes(model)["keras"] == ("float", "its kernel is int8 already")

    def test_a_layer_with_low_rank_adapters_stays_float(self):
        model = chain(layers.Dense(4, name="lora"), layers.Dense(2), shape=(4,))
        model.layers[0].enable_lora(2)
        assert notes(model)["lora"] == ("float", "its kernel is not a plain variable")

    def test_layers_inside_of_a_tf_function_stay_float(self):
        import tensorflow as tf

        class Compiled(layers.Layer):
            def __init__(self):
                super().__init__(name="compiled")
                self.dense = layers.Dense(2)

            def build(self, shape):
                self.dense.build(shape)

            @tf.function
            def call(self, inputs):
                return self.dense(inputs)

        model = chain(Compiled(), layers.Dense(2, name="dense"), shape=(4,))
        assert notes(model)["compiled"] == ("float", "its call is a tf.function")
        assert placed(model) == {"dense": {"input_0", "output"}}

    def test_a_recurrent_layer_stays_float_as_a_whole(self):
        class Counting(layers.SimpleRNNCell):
            def call(self, inputs, states, training=False):
                return super().call(inputs, states, training=training)

        for cells in (Counting(3), [layers.GRUCell(3), Counting(3)]):
            loop = layers.RNN(cells, name="loop")
            model = chain(loop, layers.Dense(2), shape=(5, 4))
            assert notes(model)["loop"] == ("float", "its Counting has no rule")
            assert not quantized_layers(loop)


def test_a_trace_leaves_the_model_as_it_was():
    model = chain(conv("conv"), norm(), layers.Dropout(0.5))
    kinds = [type(layer) for layer in model.layers]
    attributes = [set(vars(layer)) for layer in model.layers]
    record = trace(model)
    assert [type(layer) for layer in model.layers] == kinds
    assert [set(vars(layer)) for layer in model.layers] == attributes
    assert [call.layer.name for call in record.calls] == ["conv", "norm"]
    assert [layer.name for layer in record.untouched] == [model.layers[2].name]


def test_a_subclassed_model_that_does_not_know_its_shape_asks_for_data():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)
            self.dense.build((None, 4))
            self.built = True

        def call(self, inputs):
            return self.dense(inputs)

    with pytest.raises(ValueError, match=r"not known. Pass `calibration_data`"):
        trace(Net())
    assert len(trace(Net(), np.ones((2, 4), "float32")).calls) == 1


class KeepsPlaces(layers.Layer):
    """Hands a tensor to its part that it has kept since it was built."""

    def build(self, shape):
        self.position = layers.Embedding(shape[1], shape[2])
        self.places = keras.ops.expand_dims(keras.ops.arange(shape[1]), 0)
        self.offset = self.add_weight(shape=(shape[2],), name="offset")
        self.join = layers.Add()

    def call(self, x):
        return self.join([x, self.position(self.places) + self.offset])


def test_a_layer_may_hand_on_constants_that_it_keeps(random):
    x = random.normal(size=(16, 5, 4)).astype("float32")
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.Dense(2)(KeepsPlaces()(inputs)))
    exact = model.predict(x, verbose=0)
    quantize_model(model, calibration_data=x)
    assert np.abs(model.predict(x, verbose=0) - exact).max() < 0.05 * np.ptp(exact)


@pytest.mark.parametrize("kind", [layers.SimpleRNN, layers.GRU, layers.LSTM])
def test_a_layer_may_keep_its_state(kind, random):
    x = random.normal(size=(8, 5, 3)).astype("float32")
    inputs = keras.Input(batch_shape=(8, 5, 3))
    recurrent = kind(4, stateful=True)
    model = keras.Model(inputs, layers.Dense(1)(recurrent(inputs)))
    exact = [model.predict(x, batch_size=8, verbose=0) for _ in range(2)]
    recurrent.reset_state()
    quantize_model(model, calibration_data=x)
    recurrent.reset_state()
    rounded = [model.predict(x, batch_size=8, verbose=0) for _ in range(2)]
    np.testing.assert_allclose(rounded, exact, atol=0.1)
    assert np.abs(rounded[1] - rounded[0]).max() > 0
