import keras
import numpy as np
import pytest
import tensorflow as tf

import kopt


def two_layers():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="body"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def one_update(model, **options):
    """Every weight's step under a gradient of ones and a rate of 0.5."""
    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    optimizer = kopt.SGD(0.5, **options)
    optimizer.apply([tf.ones(v.shape) for v in variables], variables)
    return {v.path: b - v.numpy() for v, b in zip(variables, before, strict=True)}


def matches(model):
    body = model.layers[0]
    return {
        "expression": "body/(kernel|bias)$",
        "layer": body,
        "list of layers": [body],
        "list of variables": list(body.variables),
        "function": lambda variable: "body" in variable.path,
    }


@pytest.mark.parametrize("kind", matches(two_layers()))
def test_a_group_has_its_own_learning_rate(kind):
    model = two_layers()
    group = kopt.ParamGroup(matches(model)[kind], learning_rate_multiplier=0.1)
    for path, moved in one_update(model, param_groups=[group]).items():
        np.testing.assert_allclose(moved, 0.05 if "body" in path else 0.5, rtol=1e-5)


def test_a_group_has_its_own_weight_decay():
    model = two_layers()
    kernels = {v.path: v.numpy() for v in model.trainable_variables}
    group = kopt.ParamGroup("head", weight_decay=0.0)
    steps = one_update(model, weight_decay=0.2, param_groups=[group])
    for path, moved in steps.items():
        decay = 0 if "head" in path else 0.5 * 0.2 * kernels[path]
        np.testing.assert_allclose(moved, 0.5 + decay, rtol=1e-5)


def test_a_frozen_group_with_momentum_stands_still():
    model = two_layers()
    group = kopt.ParamGroup("body")
    optimizer = kopt.SGD(0.5, momentum=0.9, param_groups=[group])
    variables = model.trainable_variables
    ones = [tf.ones(v.shape) for v in variables]
    optimizer.apply(ones, variables)
    group.frozen = True
    before = [variable.numpy() for variable in variables]
    optimizer.apply(ones, variables)
    for variable, old in zip(variables, before, strict=True):
        stands = np.array_equal(variable.numpy(), old)
        assert stands == ("body" in variable.path)


def test_groups_survive_saving_with_what_they_matched(tmp_path):
    model = two_layers()
    groups = [
        kopt.ParamGroup(model.layers[0], frozen=True),
        kopt.ParamGroup("head/bias", learning_rate_multiplier=3.0, weight_decay=0.0),
    ]
    model.compile(kopt.AdamW(param_groups=groups, weight_decay=0.5), "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    model.fit(x, y, verbose=0)
    groups[1].learning_rate_multiplier = 2.0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    first, second = loaded.optimizer.param_groups
    assert (first.variables, second.variables) == ([0, 1], [3])
    assert (first.frozen, second.learning_rate_multiplier) == (True, 2.0)
    model.fit(x, y, verbose=0)
    loaded.fit(x, y, verbose=0)
    for expected, found in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_a_loaded_group_still_moves_its_learning_rate(tmp_path):
    model = two_layers()
    model.compile(kopt.SGD(param_groups=[kopt.ParamGroup("body", frozen=True)]), "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before = loaded.layers[0].kernel.numpy()
    loaded.optimizer.param_groups[0].frozen = False
    loaded.fit(x, y, verbose=0)
    assert np.all(loaded.layers[0].kernel.numpy() != before)


def test_a_group_that_matches_nothing_names_the_variables():
    with pytest.raises(ValueError, match=r"at least one variable.*body/kernel"):
        one_update(two_layers(), param_groups=[kopt.ParamGroup("tail")])


def test_groups_that_overlap_are_refused():
    groups = [kopt.ParamGroup("kernel"), kopt.ParamGroup("head")]
    with pytest.raises(ValueError, match=r"match '.*head/kernel'.*exclude each other"):
        one_update(two_layers(), param_groups=groups)


def test_saved_groups_are_refused_by_another_model():
    model = two_layers()
    optimizer = kopt.SGD(param_groups=[kopt.ParamGroup("head/kernel")])
    optimizer.build(model.trainable_variables)
    again = kopt.SGD.from_config(optimizer.get_config())
    with pytest.raises(ValueError, match="at least one variable"):
        again.build([keras.Variable([1.0])])


def test_a_group_without_a_pattern_is_saved_only_after_building():
    optimizer = kopt.SGD(param_groups=[kopt.ParamGroup(lambda variable: True)])
    with pytest.raises(ValueError, match="saved only after its optimizer was built"):
        optimizer.get_config()


@pytest.mark.parametrize(
    "arguments", [{"learning_rate_multiplier": -1}, {"weight_decay": -0.1}]
)
def test_negative_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="at least 0"):
        kopt.ParamGroup("kernel", **arguments)


def test_something_that_is_no_group_is_refused():
    with pytest.raises(TypeError, match=r"must hold `kopt.ParamGroup` objects"):
        kopt.SGD(param_groups=["kernel"])


def test_a_group_has_one_multiplier_however_many_variables_it_holds():
    variables = [keras.Variable([1.0], name="bias") for _ in range(4)]
    groups = [kopt.ParamGroup(variables[:3], 0.5), kopt.ParamGroup(variables[3:], 0.25)]
    optimizer = kopt.SGD(1.0, param_groups=groups)
    optimizer.build(variables)
    paths = [v.path for v in optimizer.variables if "multiplier" in v.path]
    assert len(paths) == len(set(paths)) == 2
    groups[0].learning_rate_multiplier = 0.125
    optimizer.apply([tf.ones(1)] * 4, variables)
    assert [float(v[0]) for v in variables] == [0.875, 0.875, 0.875, 0.75]


def test_groups_of_a_copy_are_found_again_where_layers_were_frozen_in_between():
    # All layers alike: positions alone would take another one.
    model = keras.Sequential(
        [keras.Input((4,)), *[keras.layers.Dense(4, name=f"at_{i}") for i in range(3)]]
    )
    group = kopt.ParamGroup("at_1", learning_rate_multiplier=0.0)
    model.compile(kopt.SGD(0.1, param_groups=[group]), "mse")
    x = np.ones((8, 4), "float32")
    model.train_on_batch(x, x)
    model.layers[0].trainable = False
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.layers[0].trainable = False
    copy.compile(kopt.SGD.from_config(model.optimizer.get_config()), "mse")
    before = [weight.numpy() for weight in copy.weights]
    copy.train_on_batch(x, 2 * x)
    moved = [
        bool((weight.numpy() != old).any())
        for weight, old in zip(copy.weights, before, strict=True)
    ]
    assert moved == [False, False, False, False, True, True]


def test_a_group_by_a_function_says_that_other_layers_are_frozen_now():
    variables = [keras.Variable(np.ones(2)) for _ in range(3)]
    group = kopt.ParamGroup(lambda variable: variable is variables[1])
    optimizer = kopt.SGD(0.1, param_groups=[group])
    optimizer.build(variables)
    again = kopt.SGD.from_config(optimizer.get_config())
    with pytest.raises(ValueError, match="some of 3 variables, and there are 2 now"):
        again.build(variables[1:])
