"""What holds for every callback in the registry.

The cases are the callbacks that each class gives by `examples()`. The model has twelve
batches an epoch and trains for three epochs.
"""

import copy

import keras
import numpy as np
import pytest

import kopt
from kopt import _registry

CALLBACKS = [
    _registry.entry("callbacks", name) for name in _registry.names("callbacks")
]
CASES = [
    pytest.param(callback, place, id=f"{callback.__name__}-{place}")
    for callback in CALLBACKS
    for place in range(len(callback.examples()))
]
each_class = pytest.mark.parametrize("callback", CALLBACKS)
each = pytest.mark.parametrize(("callback", "place"), CASES)
# Where each case is a few trainings: one example of each is enough every time.
first_of_each = pytest.mark.parametrize(
    ("callback", "place"),
    [
        pytest.param(*case.values, id=case.id, marks=[pytest.mark.slow] * bool(place))
        for case in CASES
        for place in case.values[1:]
    ],
)

X = (
    np.random.default_rng(0).normal(size=(46, 4)).astype("float32")
)  # a short last batch
Y = X @ np.ones((4, 1), "float32")


class CountingModel(keras.Sequential):
    """Counts how often its training step is traced."""

    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


def train(callbacks, optimizer="sgd", validation=False, **compile_arguments):
    """A model after a `fit` with `callbacks`, from the same start every time."""
    keras.utils.set_random_seed(1)
    model = CountingModel(
        [keras.Input((4,)), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    )
    model.compile(optimizer, loss="mse", metrics=["mae"], **compile_arguments)
    refit(model, callbacks, **({"validation_data": (X, Y)} if validation else {}))
    return model


def refit(model, callbacks, **arguments):
    if any(getattr(one, "needs_validation", False) for one in callbacks):
        arguments["validation_data"] = (X, Y)
    model.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=callbacks, **arguments)


def assert_same_weights(model, other):
    for weight, same in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), same.numpy())


@each_class
def test_it_is_a_keras_callback_with_examples(callback):
    assert issubclass(callback, keras.callbacks.Callback)
    assert getattr(kopt.callbacks, callback.__name__) is callback
    assert callback.examples()
    assert all(type(example) is callback for example in callback.examples())


OPTIMIZERS = {
    "accumulating": lambda: keras.optimizers.Adam(gradient_accumulation_steps=2),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
    "kopt": lambda: kopt.Adam(),
}


@first_of_each
@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": False},
        {"jit_compile": True},
        {"run_eagerly": True},
        {"steps_per_execution": 3, "validation": True},
    ],
    ids=str,
)
def test_it_works_in_a_fit(callback, place, arguments):
    model = train([callback.examples()[place]], **arguments)
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


@first_of_each
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_works_with_every_kind_of_optimizer(callback, place, optimizer):
    model = train([callback.examples()[place]], optimizer=OPTIMIZERS[optimizer]())
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


@first_of_each
def test_it_can_be_used_again_on_the_same_model(callback, place):
    example = callback.examples()[place]
    model = train([example])
    refit(model, [example])
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


@first_of_each
def test_a_used_one_and_a_deep_copy_do_what_a_new_one_does(callback, place):
    # Keras Tuner copies callbacks for each trial.
    example = callback.examples()[place]
    copied = copy.deepcopy(example)
    first = train([example])
    assert_same_weights(train([example]), first)
    assert_same_weights(train([copied]), first)
    # Nothing of it makes Keras trace the training step again, unless it says so.
    if not getattr(callback, "retraces", False):
        assert first.traces == train([]).traces > 0


@each
def test_the_model_keeps_its_own_train_function(callback, place):
    model = train([])
    own = model.train_function
    refit(model, [callback.examples()[place]])
    # What is to happen before the next step stands there until then.
    refit(model, [])
    if not getattr(callback, "retraces", False):
        assert model.train_function is own


@each
def test_it_leaves_evaluate_and_predict_alone(callback, place):
    model = train([])
    before = [weight.numpy() for weight in model.weights]
    example = callback.examples()[place]
    loss = model.evaluate(X, Y, verbose=0, callbacks=[example])
    assert loss == model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0, callbacks=[example])
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
