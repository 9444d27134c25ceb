"""Regularizers put on models that already exist."""

import keras
import numpy as np
import pytest

import kopt
from kopt.regularizers import L1, L2, GroupLasso, apply

STEPS = (6, 4)
INPUTS = np.random.default_rng(0).normal(size=(8, *STEPS)).astype("float32")
TARGETS = np.ones((8, 1), "float32")


@keras.saving.register_keras_serializable("kopt_tests")
class Block(keras.layers.Layer):
    """Attention, and a layer that the configuration does not mention."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.attention = keras.layers.MultiHeadAttention(2, 2, name="attention")
        self.inside = keras.layers.Dense(4, name="inside")

    def build(self, shape):
        self.attention.build(shape, shape)
        self.inside.build(shape)

    def call(self, inputs):
        return self.inside(inputs + self.attention(inputs, inputs))


@keras.saving.register_keras_serializable("kopt_tests")
class Subclassed(keras.Model):
    def __init__(self, units=3, **arguments):
        super().__init__(**arguments)
        self.units = units
        self.stack = [
            Block(name="block"),
            keras.layers.SimpleRNN(units, name="recurrent"),
        ]
        self.head = keras.layers.Dense(1, kernel_regularizer="l2", name="head")

    def call(self, inputs):
        for layer in self.stack:
            inputs = layer(inputs)
        return self.head(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def sequential():
    return keras.Sequential(
        [
            keras.Input(STEPS),
            keras.layers.Conv1D(3, 2, name="conv"),
            keras.layers.SeparableConv1D(3, 2, name="separable"),
            keras.layers.DepthwiseConv1D(2, name="depthwise"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, name="head"),
        ]
    )


def functional():
    inputs = keras.Input(STEPS)
    values = Block(name="block")(inputs)
    recurrent = keras.layers.SimpleRNN(3, name="rnn")
    values = keras.layers.Bidirectional(recurrent, name="both")(values)
    return keras.Model(inputs, keras.layers.Dense(1, name="head")(values))


def nested():
    inputs = keras.Input(STEPS)
    values = keras.layers.Dense(4, name="inside")(inputs)
    inner = keras.Model(inputs, keras.layers.Dense(4)(values), name="inner")
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.Input(STEPS)
    values = keras.layers.Flatten()(inner(shared(inner(shared(inputs)))))
    return keras.Model(inputs, keras.layers.Dense(1, name="head")(values))


def sharing():
    """Two models with one layer in common, which Keras can build but not load."""
    shared = keras.layers.Dense(4, name="shared")
    inputs = keras.Input(STEPS)
    first = keras.Model(inputs, shared(inputs), name="first")
    inputs = keras.Input(STEPS)
    second = keras.Model(inputs, shared(inputs), name="second")
    inputs = keras.Input(STEPS)
    return keras.Model(inputs, second(first(inputs)))


def wrapped():
    return keras.Sequential(
        [
            keras.Input(STEPS),
            keras.layers.TimeDistributed(keras.layers.Dense(3), name="steps"),
            keras.layers.Flatten(),
            kopt.layers.DropConnect(keras.layers.Dense(1), 0.5, name="dropped"),
        ]
    )


def hiding():
    """A sequential model with layers that its configuration does not mention."""
    return keras.Sequential(
        [
            keras.Input(STEPS),
            Block(name="block"),
            keras.layers.Flatten(),
            keras.layers.Dense(1, name="head"),
        ]
    )


def subclassed():
    model = Subclassed()
    model(INPUTS)
    return model


@pytest.fixture(params=[sequential, functional, nested, wrapped, hiding, subclassed])
def model(request):
    return request.param()


def main_weights(model):
    names = ("kernel", "depthwise_kernel", "pointwise_kernel")
    return [weight for weight in model.weights if weight.name in names]


def regularized(model):
    return [weight for weight in model.weights if weight.regularizer is not None]


def squares(weights):
    return sum(
        float((weight.numpy().astype("float64") ** 2).sum()) for weight in weights
    )


def penalty_of(model):
    return sum(float(loss) for loss in model.losses)


def compiled(model):
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    return model


def test_changes_the_loss_by_exactly_the_penalty(model):
    compiled(model)
    apply(model, {keras.Model: None})
    before = model.evaluate(INPUTS, TARGETS, verbose=0)
    assert apply(model, {keras.Model: L2(0.5)}) is model
    after = model.evaluate(INPUTS, TARGETS, verbose=0)
    expected = 0.5 * squares(main_weights(model))
    assert penalty_of(model) == pytest.approx(expected, rel=1e-6)
    assert after - before == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("model", [sequential, subclassed], indirect=True)
def test_counts_in_training_even_where_the_model_was_trained_before(model):
    compiled(model).fit(INPUTS, TARGETS, verbose=0)
    apply(model, {keras.Model: L2(1e3)})
    expected = 1e3 * squares(main_weights(model))
    loss = model.fit(INPUTS, TARGETS, verbose=0).history["loss"][0]
    assert loss == pytest.approx(expected, rel=0.1)


def test_is_saved_with_the_model(model, tmp_path):
    apply(compiled(model), [(keras.Model, L2(0.5)), ("head|dropped", GroupLasso(0.1))])
    model.fit(INPUTS, TARGETS, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")

    assert [repr(weight.regularizer) for weight in again.weights] == [
        repr(weight.regularizer) for weight in model.weights
    ]
    assert penalty_of(again) == penalty_of(model) > 0
    np.testing.assert_array_equal(again(INPUTS), model(INPUTS))
    evaluated = [one.evaluate(INPUTS, TARGETS, verbose=0) for one in (model, again)]
    assert evaluated[0] == evaluated[1]
    # And once more, now that the loaded model saves itself.
    again.save(tmp_path / "again.keras")
    assert penalty_of(keras.models.load_model(tmp_path / "again.keras")) > 0


def test_a_saved_model_stays_what_it_was(model, tmp_path):
    kind = type(model)
    apply(model, {keras.Model: "l2"})
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for one in (model, again):
        assert isinstance(one, kind)
        assert type(one).__name__ == kind.__name__
        assert not getattr(one, "compiled", False)


@pytest.mark.parametrize("model", [sequential, nested, wrapped], indirect=True)
def test_a_model_whose_configuration_keeps_all_keeps_its_class(model):
    kind = type(model)
    apply(model, {keras.Model: "l2"})
    assert type(model) is kind


def test_layers_share_an_object(model):
    penalty = L2(0.5)
    apply(model, {keras.Model: penalty})
    before = penalty_of(model)
    penalty.l2 = 0.25
    assert penalty_of(model) == pytest.approx(before / 2, rel=1e-6)


def test_a_moved_factor_is_what_is_saved(model, tmp_path):
    penalty = L2(0.5)
    apply(model, {keras.Model: penalty})
    penalty.l2 = 0.125
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert penalty_of(again) == penalty_of(model)


def test_a_removed_regularizer_stays_away(tmp_path):
    model = subclassed()
    apply(model, {"head": None})
    assert model.losses == []
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").losses == []


def test_a_file_that_does_not_fit_the_code_is_refused():
    model = subclassed()
    apply(model, {keras.Model: "l2"})
    config = keras.saving.serialize_keras_object(model)
    config["config"]["regularizers"][0]["index"] += 1
    with pytest.raises(ValueError, match="Load the file with the code"):
        keras.saving.deserialize_keras_object(config)


BOTH = [
    f"both/{direction}_rnn/simple_rnn_cell/kernel"
    for direction in ("forward", "backward")
]
ATTENTION = [
    f"block/attention/{part}/kernel"
    for part in ("query", "key", "value", "attention_output")
]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("head", ["head/kernel"]),
        ("^both", BOTH),
        ("block/inside$", ["block/inside/kernel"]),
        (keras.layers.Dense, ["block/inside/kernel", "head/kernel"]),
        (keras.layers.SimpleRNNCell, BOTH),
        (keras.layers.MultiHeadAttention, ATTENTION),
        (lambda layer: layer.name.startswith("hea"), ["head/kernel"]),
    ],
)
def test_rules_match_by_path_class_or_function(match, expected):
    model = functional()
    apply(model, {match: L1()})
    assert sorted(weight.path for weight in regularized(model)) == sorted(expected)


def test_a_rule_matches_a_layer_object():
    model = functional()
    apply(model, {model.layers[-1]: L1()})
    assert [weight.path for weight in regularized(model)] == ["head/kernel"]


def test_a_shared_layer_is_matched_by_each_of_its_paths():
    for match in ("first/shared", "second/shared"):
        model = sharing()
        apply(model, {match: L2()})
        assert len(model.losses) == 1


def test_the_last_matching_rule_counts():
    model = sequential()
    apply(model, [(keras.Model, L2(0.1)), ("head", L1(0.3)), ("conv", None)])
    kinds = {
        layer.name: layer.kernel.regularizer
        for layer in model.layers
        if layer.name in ("conv", "depthwise", "head")
    }
    assert kinds["conv"] is None
    assert isinstance(kinds["depthwise"], L2)
    assert isinstance(kinds["head"], L1)


@pytest.mark.parametrize("given", ["L2", "l2", L2(), keras.regularizers.L2(), abs])
def test_a_regularizer_may_be_given_in_any_form(given):
    model = sequential()
    apply(model, {"head": given})
    assert callable(model.layers[-1].kernel.regularizer)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("bias", {"bias"}),
        (("gamma", "beta"), {"gamma", "beta"}),
        ("pointwise_kernel", {"pointwise_kernel"}),
    ],
)
def test_other_weights_are_regularized_where_asked(weights, expected, tmp_path):
    model = sequential()
    apply(model, {keras.Model: L2()}, weights=weights)
    model.save(tmp_path / "model.keras")
    for one in (model, keras.models.load_model(tmp_path / "model.keras")):
        found = {
            weight.name for weight in one.weights if weight.regularizer is not None
        }
        assert found == expected


def test_frozen_weights_are_not_penalized():
    model = sequential()
    model.get_layer("head").trainable = False
    apply(model, {"head": L2()})
    assert model.losses == []


def test_a_rule_that_matches_nothing_names_the_layers_and_changes_nothing():
    model = sequential()
    with pytest.raises(ValueError, match=r"'haed' matches no layer.*'head' \(kernel"):
        apply(model, {"conv": L2(), "haed": L2()})
    assert model.losses == []


def test_a_rule_for_layers_without_such_weights_is_refused():
    with pytest.raises(ValueError, match=r"'norm' \(gamma, beta"):
        apply(sequential(), {keras.layers.BatchNormalization: L2()})


@pytest.mark.parametrize("rules", [{}, [], [("head",)], [("head", L2(), 3)]])
def test_what_are_no_rules_is_refused(rules):
    with pytest.raises(ValueError, match="`rules` must be a dict, or a list of pairs"):
        apply(sequential(), rules)


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ({3: "l2"}, TypeError),
        ({"(": "l2"}, ValueError),
        ({"head": "l3"}, ValueError),
        ({"head": 0.1}, ValueError),
    ],
)
def test_a_bad_match_or_regularizer_is_refused(rules, error):
    with pytest.raises(error):
        apply(sequential(), rules)


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="must be a built model"):
        apply(keras.Sequential([keras.layers.Dense(2)]), {"dense": L2()})
