import keras
import numpy as np
import pytest
from keras import layers

import kopt
from kopt.quantization import (
    Int8,
    is_quantized,
    quantization_report,
    quantize_model,
    strip_quantization,
)


def states(model):
    return [one.value.numpy() for one in model.variables]


def loss_of(model, x, y):
    return model.evaluate(x, y, verbose=0)


@pytest.fixture
def targets(images):
    return np.arange(len(images)) % 4


@pytest.fixture
def trained(cnn, images, targets):
    cnn.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    cnn.fit(images, targets, epochs=3, verbose=0)
    return cnn


class TestBadModels:
    def test_a_model_that_is_not_built(self, rows):
        model = keras.Sequential([layers.Dense(2)])
        with pytest.raises(ValueError, match=r"a built model.*model\.build"):
            quantize_model(model)

    def test_something_that_is_no_model(self):
        with pytest.raises(TypeError, match="a Keras 3 model"):
            quantize_model("model.keras")

    def test_weights_that_are_nan(self, mlp):
        mlp.layers[0].kernel.assign(np.full((6, 8), np.nan))
        with pytest.raises(ValueError, match=r"NaN or infinite values in 'mlp/hidden"):
            quantize_model(mlp)

    @pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
    def test_other_float_types(self, policy):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype=policy)])
        with pytest.raises(ValueError, match=r"computes in b?float\d\d.*'float32'"):
            quantize_model(model)

    def test_nothing_to_quantize(self):
        model = keras.Sequential(
            [keras.Input((8, 3)), layers.LSTM(2, activation="selu", name="memory")]
        )
        with pytest.raises(
            ValueError, match=r"Nothing in.*memory: its activation has no integer form"
        ):
            quantize_model(model)

    def test_a_model_that_is_quantized_already(self, mlp):
        quantize_model(mlp)
        with pytest.raises(ValueError, match=r"quantized already.*strip_quantization"):
            quantize_model(mlp)

    def test_a_config_that_is_none(self, mlp):
        with pytest.raises(TypeError, match=r"`config` must be.*Int8\(\).*'int8'"):
            quantize_model(mlp, "int8")

    def test_a_call_that_is_a_tf_function(self, rows):
        import tensorflow as tf

        class Compiled(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = layers.Dense(2)

            @tf.function
            def call(self, inputs):
                return self.dense(inputs)

        model = Compiled()
        model(rows)
        with pytest.raises(ValueError, match=r"is a tf\.function"):
            quantize_model(model)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_calibration_data_that_are_not_finite_leave_the_model_as_it_was(
        self, mlp, rows, bad
    ):
        before = mlp.predict(rows, verbose=0)
        spoiled = rows.copy()
        spoiled[50] = bad
        with pytest.raises(ValueError, match="NaN or infinite"):
            quantize_model(mlp, calibration_data=spoiled)
        assert not is_quantized(mlp)
        assert [type(layer) for layer in mlp.layers] == [layers.Dense] * 2
        np.testing.assert_array_equal(mlp.predict(rows, verbose=0), before)

    def test_momentum_outside_of_0_to_1(self):
        with pytest.raises(ValueError, match="momentum"):
            Int8(momentum=1.5)


class TestUncalibrated:
    @pytest.mark.parametrize("eagerly", [False, True])
    def test_predict_and_fit_refuse(self, mlp, rows, eagerly):
        quantize_model(mlp)
        mlp.compile("sgd", "mse", run_eagerly=eagerly)
        for run in (
            lambda: mlp.predict(rows, verbose=0),
            lambda: mlp.fit(rows, rows[:, :3], verbose=0),
            lambda: mlp(rows),
        ):
            with pytest.raises(RuntimeError, match=r"has not been calibrated"):
                run()

    def test_weights_with_ranges_calibrate(self, mlp, rows, tmp_path):
        twin = keras.models.clone_model(mlp)
        quantize_model(mlp, calibration_data=rows)
        mlp.save_weights(tmp_path / "ranges.weights.h5")
        quantize_model(twin)
        twin.load_weights(tmp_path / "ranges.weights.h5")
        np.testing.assert_array_equal(
            twin.predict(rows, verbose=0), mlp.predict(rows, verbose=0)
        )


class TestQuantized:
    def test_is_the_same_model_with_the_same_weights(self, cnn, images):
        variables = [id(one) for one in cnn.trainable_variables]
        before = states(cnn)
        assert quantize_model(cnn, Int8(), images) is cnn
        assert [id(one) for one in cnn.trainable_variables] == variables
        after = {id(one): one.value.numpy() for one in cnn.variables}
        assert len(after) > len(before)
        for value in before:
            assert any(np.array_equal(value, other) for other in after.values())

    def test_computes_nearly_what_the_float_model_does(self, trained, images):
        exact = trained.predict(images, verbose=0)
        rounded = quantize_model(trained, calibration_data=images).predict(
            images, verbose=0
        )
        assert 0 < np.abs(rounded - exact).max() < 0.05
        assert (rounded.argmax(1) == exact.argmax(1)).mean() > 0.97

    def test_forgets_what_it_compiled_as_a_float_model(self, trained, images):
        before = trained.predict(images, verbose=0)
        quantize_model(trained, calibration_data=images)
        assert (trained.predict(images, verbose=0) != before).any()

    @pytest.mark.parametrize(
        "how",
        [
            {},
            pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
            pytest.param({"run_eagerly": True}, marks=pytest.mark.slow),
        ],
        ids=str,
    )
    def test_trains_every_trainable_weight(self, cnn, images, targets, how):
        quantize_model(cnn, calibration_data=images)
        cnn.compile(
            keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", **how
        )
        before = [one.numpy() for one in cnn.trainable_variables]
        start = loss_of(cnn, images, targets)
        cnn.fit(images, targets, epochs=8, verbose=0)
        for variable, value in zip(cnn.trainable_variables, before, strict=True):
            assert (variable.numpy() != value).any(), variable.path
        assert loss_of(cnn, images, targets) < start

    @pytest.mark.slow
    def test_graph_and_xla_take_the_same_steps(self, cnn, images, targets):
        losses = []
        quantize_model(cnn, calibration_data=images)
        start = cnn.get_weights()
        for jit in (False, True):
            keras.utils.set_random_seed(1)
            cnn.set_weights(start)
            cnn.get_layer("dropout").rate = 0.0
            cnn.compile("sgd", "sparse_categorical_crossentropy", jit_compile=jit)
            history = cnn.fit(images, targets, epochs=3, shuffle=False, verbose=0)
            losses.append(history.history["loss"])
        np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)

    def test_goes_on_training_without_a_new_compile(self, trained, images, targets):
        iterations = int(trained.optimizer.iterations.numpy())
        quantize_model(trained, calibration_data=images)
        trained.fit(images, targets, verbose=0)
        assert int(trained.optimizer.iterations.numpy()) > iterations

    def test_trains_in_a_loop_of_ones_own(self, mlp, rows):
        import tensorflow as tf

        quantize_model(mlp, calibration_data=rows)
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(mlp.trainable_variables)

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(mlp(x, training=True) ** 2)
            values = [one.value for one in mlp.trainable_variables]
            optimizer.apply(tape.gradient(loss, values))
            return loss

        losses = [float(step(rows)) for _ in range(20)]
        assert losses[-1] < 0.5 * losses[0]

    def test_zeros_of_a_pruned_model_stay_zero_in_training(self, mlp, rows):
        kernel = mlp.layers[0].kernel
        mask = (np.arange(48).reshape(6, 8) % 3 == 0).astype("float32")

        class Mask(keras.constraints.Constraint):
            def __call__(self, w):
                return w * mask

        kernel.constraint = Mask()
        kernel.assign(kernel * mask)
        quantize_model(mlp, calibration_data=rows)
        mlp.compile(keras.optimizers.Adam(0.01), "mse")
        mlp.fit(rows, rows[:, :3], epochs=2, verbose=0)
        assert (kernel.numpy()[mask == 0] == 0).all()
        assert (kernel.numpy()[mask == 1] != 0).all()
        with kopt.quantization.snapped(mlp):
            assert (kernel.numpy()[mask == 0] == 0).all()

    @pytest.mark.slow
    def test_replicas_train_as_one(self, mlp, rows, two_replicas):
        import tensorflow as tf

        weights = mlp.get_weights()
        losses = []
        for strategy in (tf.distribute.get_strategy(), two_replicas):
            with strategy.scope():
                model = keras.Sequential(
                    [
                        keras.Input((6,)),
                        layers.Dense(8, activation="relu"),
                        layers.Dense(3),
                    ]
                )
                model.set_weights(weights)
                quantize_model(model, Int8(momentum=1.0), rows)
                model.compile(keras.optimizers.SGD(0.1), "mse")
            history = model.fit(
                rows, rows[:, :3], batch_size=32, epochs=3, shuffle=False, verbose=0
            )
            losses.append(history.history["loss"])
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


class TestStructures:
    def test_a_shared_layer_is_quantized_once_for_all_its_calls(self, rows):
        shared = layers.Dense(6, name="shared")
        inputs = keras.Input((6,))
        model = keras.Model(inputs, shared(shared(inputs)))
        quantize_model(model, calibration_data=rows)
        output = shared.quantizer.ranges["output"]
        kernel = shared.kernel.numpy()
        first = rows @ kernel
        low = min(first.min(), (first @ kernel).min())
        assert float(output.low.numpy()) == pytest.approx(low, rel=0.05)
        assert np.isfinite(model(rows).numpy()).all()

    def test_models_inside_of_models(self, cnn, images, targets):
        inputs = keras.Input((8, 8, 3))
        outer = keras.Model(inputs, layers.Dense(4)(cnn(inputs)))
        quantize_model(outer, calibration_data=images)
        assert type(cnn.get_layer("conv")).__name__ == "QuantizedConv2D"
        # Inside of another model its probabilities are no longer the output.
        assert "output" in cnn.get_layer("head").quantizer.ranges
        outer.compile("sgd", "mse")
        outer.fit(images, np.eye(4)[targets], verbose=0)

    def test_a_part_of_a_quantized_model_is_quantized(self, cnn, images):
        quantize_model(cnn, calibration_data=images)
        part = keras.Model(cnn.inputs, cnn.get_layer("relu").output)
        assert is_quantized(part)
        values = np.unique(part.predict(images, verbose=0))
        assert len(values) <= 256

    def test_a_subclassed_model(self, images, targets):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.conv = layers.Conv2D(4, 3)
                self.norm = layers.BatchNormalization()
                self.blocks = [layers.Conv2D(4, 1), layers.Conv2D(4, 1)]
                self.head = layers.Dense(4)

            def call(self, inputs):
                x = keras.ops.relu(self.norm(self.conv(inputs)))
                for block in self.blocks:
                    x = x + block(x)
                return self.head(keras.ops.mean(x, axis=(1, 2)))

        model = Net()
        exact = model(images).numpy()
        quantize_model(model, calibration_data=images)
        np.testing.assert_allclose(model(images), exact, atol=0.05 * np.ptp(exact))
        assert len(quantization_report(model).integer) == 5
        model.compile("adam", "mse")
        model.fit(images, np.eye(4)[targets], verbose=0)

    def test_drop_connect_around_a_layer(self, rows):
        model = keras.Sequential(
            [
                keras.Input((6,)),
                kopt.layers.DropConnect(layers.Dense(8, activation="relu"), rate=0.5),
                kopt.layers.Dropout(0.5),
                layers.Dense(3),
            ]
        )
        exact = model(rows).numpy()
        quantize_model(model, calibration_data=rows)
        rounded = model(rows).numpy()
        np.testing.assert_allclose(rounded, exact, atol=0.05 * np.ptp(exact))
        assert type(model.layers[0].layer).__name__ == "QuantizedDense"
        assert (model(rows, training=True) != model(rows, training=True)).numpy().any()
        model.compile("adam", "mse")
        model.fit(rows, rows[:, :3], verbose=0)

    def test_drop_path_in_a_residual_branch(self, images):
        inputs = keras.Input((8, 8, 3))
        branch = layers.Conv2D(3, 3, padding="same")(inputs)
        x = layers.Add()([inputs, kopt.layers.DropPath(0.2)(branch)])
        model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
        quantize_model(model, calibration_data=images)
        assert quantization_report(model)["drop_path"].state == "passes"
        assert quantization_report(model)["add"].state == "integer"

    def test_inputs_in_a_dict(self, random):
        a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
        joined = layers.Concatenate()([layers.Dense(3)(a), layers.Dense(2)(b)])
        model = keras.Model({"a": a, "b": b}, layers.Dense(2)(joined))
        data = {"a": random.normal(size=(9, 6)), "b": random.normal(size=(9, 4))}
        quantize_model(model, calibration_data=data)
        assert np.isfinite(model(data).numpy()).all()

    def test_a_layer_without_a_rule_stays_float_between_quantized_ones(self, images):
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(4, 3),
                layers.LayerNormalization(name="island"),
                layers.Conv2D(4, 3),
            ]
        )
        quantize_model(model, calibration_data=images)
        report = quantization_report(model)
        assert [one.name for one in report.stays_float] == ["sequential/island"]
        assert type(model.layers[1]) is layers.LayerNormalization


def test_stripping_after_training_gives_the_trained_float_model(
    trained, images, targets
):
    quantize_model(trained, calibration_data=images)
    trained.fit(images, targets, verbose=0)
    weights = [one.numpy() for one in trained.trainable_variables]
    rounded = trained.predict(images, verbose=0)
    strip_quantization(trained)
    for variable, value in zip(trained.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    exact = trained.predict(images, verbose=0)
    assert 0 < np.abs(exact - rounded).max() < 0.1
