"""Teachers of models with several outputs: each output has a loss that fits it."""

import keras
import numpy as np
import pytest
from keras import layers

from kopt import pruning
from kopt.quantization import learn_from, quantize_model
from tests.sampling import sampled

ROWS = 48


def data():
    return np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")


def heads():
    inputs = keras.Input((3,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    kind = layers.Dense(3, activation="softmax")(hidden)
    tags = layers.Activation("sigmoid")(layers.Dense(4)(hidden))
    size = layers.Dense(1)(hidden)
    return inputs, kind, tags, size


def of_dict():
    inputs, kind, tags, size = heads()
    return keras.Model(inputs, {"size": size, "kind": kind, "tags": tags})


def of_list():
    inputs, kind, tags, size = heads()
    return keras.Model(inputs, [kind, tags, size])


def nested_outputs():
    inputs, kind, tags, size = heads()
    return keras.Model(inputs, {"a": [kind, size], "b": tags})


def model_as_last_layer():
    inputs = keras.Input((3,))
    return keras.Model(inputs, of_list()(layers.Dense(3)(inputs)))


@keras.saving.register_keras_serializable("lessons")
class ByHand(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.kind, self.size = layers.Dense(3, "softmax"), layers.Dense(1)

    def call(self, x):
        return {"kind": self.kind(x), "size": self.size(x)}


def by_hand():
    model = ByHand()
    model(data())
    return model


def expected(target, output):
    """The distances in NumPy, by what the heads are."""
    target, output = np.asarray(target, "float64"), np.asarray(output, "float64")
    if target.shape[-1] == 3:
        return np.sum(target * np.log(target / output), axis=-1)
    if target.shape[-1] == 4:
        pairs = target * np.log(output) + (1 - target) * np.log(1 - output)
        return -np.mean(pairs, axis=-1)
    return np.mean((target - output) ** 2, axis=-1)


def taught_loss(model, teacher, **fit):
    """The loss of a step that is the distance from the teacher alone."""
    learn_from(model, teacher, weight=1.0, **fit.pop("lessons", {}))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = data()
    y = keras.tree.map_structure(lambda one: np.zeros(one.shape), model(x))
    return model.fit(x, y, batch_size=ROWS, verbose=0, **fit).history["loss"][0]


@pytest.mark.parametrize(
    "build", [of_dict, of_list, nested_outputs, model_as_last_layer]
)
def test_the_distance_is_the_sum_of_what_fits_each_output(build):
    model, teacher = build(), build()
    pairs = zip(*(keras.tree.flatten(m(data())) for m in (teacher, model)), strict=True)
    sums = sum(expected(*pair).mean() for pair in pairs)
    assert taught_loss(model, teacher) == pytest.approx(sums, rel=1e-4)


def test_sample_weights_count_in_the_distance_as_in_the_loss():
    model, teacher = of_list(), of_list()
    weights = np.linspace(0, 1, ROWS)
    pairs = zip(teacher(data()), model(data()), strict=True)
    sums = sum(np.mean(weights * expected(*pair)) for pair in pairs)
    loss = taught_loss(model, teacher, sample_weight=weights)
    assert loss == pytest.approx(sums, rel=1e-4)


def test_losses_can_be_given_for_each_output_and_none_leaves_it_out():
    model, teacher = of_dict(), of_dict()
    distance = np.mean(np.abs(teacher(data())["size"] - model(data())["size"]))
    losses = {"size": "mae", "kind": None, "tags": None}
    found = taught_loss(model, teacher, lessons={"loss": losses})
    assert found == pytest.approx(distance, rel=1e-4)


def test_losses_in_another_structure_are_refused():
    with pytest.raises(ValueError, match="one for each in the structure"):
        taught_loss(of_dict(), of_dict(), lessons={"loss": ["mae", "mae"]})


@pytest.mark.parametrize(
    "build",
    sampled(
        [of_dict, of_list, nested_outputs, by_hand], [nested_outputs], pytest.mark.slow
    ),
)
def test_a_quantized_model_of_many_outputs_trains_to_what_it_was(build, tmp_path):
    x, model = data(), build()
    exact = model(x)
    quantize_model(model, calibration_data=x, teacher=True)
    learn_from(model, model._kopt_teacher.model, weight=1.0)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    away = keras.tree.map_structure(lambda one: one.numpy() + 100.0, exact)
    model.fit(x, away, epochs=2, verbose=0)
    for mine, other in zip(*map(keras.tree.flatten, (model(x), exact)), strict=True):
        assert np.abs(mine - other).max() < 0.5
    learn_from(model, None)
    assert type(model).__name__.removeprefix("Quantized") == type(build()).__name__


def test_a_taught_model_of_many_outputs_is_saved_without_its_teacher(tmp_path):
    x, model = data(), of_dict()
    quantize_model(model, calibration_data=x, teacher=True)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert not hasattr(again, "_kopt_teacher")
    np.testing.assert_array_equal(again(x)["kind"], model(x)["kind"])


def test_in_mixed_precision_the_distance_is_computed_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    loss = taught_loss(of_dict(), of_dict())
    assert np.isfinite(loss) and loss > 0


def other_names():
    inputs, kind, tags, size = heads()
    return keras.Model(inputs, {"size": size, "class": kind, "tags": tags})


def wider():
    inputs, kind, tags, size = heads()
    size = layers.Concatenate()([size, size])
    return keras.Model(inputs, {"size": size, "kind": kind, "tags": tags})


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            of_dict,
            other_names,
            "a dict of 'class', 'size', 'tags'; the model has a dict",
        ),
        (of_dict, of_list, "a list of 3 outputs; the model has a dict"),
        (of_dict, wider, r"'size' of shape \(None, 2\); the model's is \(None, 1\)"),
    ],
)
def test_outputs_that_do_not_stand_for_each_other_are_refused(
    student, teacher, message
):
    model = student()
    with pytest.raises(ValueError, match=message):
        learn_from(model, teacher())
    assert type(model) is type(student())


def test_outputs_of_a_model_by_hand_are_compared_when_it_trains():
    with pytest.raises(ValueError, match="a dict of 'kind', 'size'"):
        taught_loss(by_hand(), of_dict())


def test_a_pruned_model_has_itself_as_a_teacher_too():
    x, model = data(), of_list()
    pruning.prune_low_magnitude(model, pruning.OneShot(0.5))
    exact = [one.numpy() for one in model(x)]
    quantize_model(model, calibration_data=x, teacher=True)
    for mine, other in zip(model._kopt_teacher.model(x), exact, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


def test_a_class_that_cannot_be_copied_asks_for_a_teacher_of_its_own():
    class Uncopied(ByHand):
        def get_config(self):
            raise NotImplementedError

    model = Uncopied()
    model(data())
    with pytest.raises(ValueError, match="pass a float model as `teacher`"):
        quantize_model(model, calibration_data=data(), teacher=True)
    assert type(model) is Uncopied
