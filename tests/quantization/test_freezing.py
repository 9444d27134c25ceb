import keras
import numpy as np
import pytest

from kopt.quantization import (
    FreezeLate,
    freeze_batch_norm,
    freeze_ranges,
    quantize_model,
)


def highs(model):
    return [
        float(one.high.numpy())
        for layer in model.layers
        if hasattr(layer, "quantizer")
        for one in layer.quantizer.ranges.values()
    ]


def compiled(model):
    # Weights stand still, so that only ranges can move.
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def test_frozen_ranges_stand_still_in_training_and_thawed_ones_move(mlp, rows):
    model = compiled(quantize_model(mlp, calibration_data=rows))
    freeze_ranges(model)
    before = highs(model)
    model.fit(3 * rows, np.zeros((64, 3)), verbose=0)
    assert highs(model) == before
    freeze_ranges(model, frozen=False)
    model.fit(3 * rows, np.zeros((64, 3)), verbose=0)
    assert all(new > old for new, old in zip(highs(model), before, strict=True))


def test_freezing_takes_effect_in_the_middle_of_fit(mlp, rows):
    model = compiled(quantize_model(mlp, calibration_data=rows))
    seen = []

    class Freeze(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(highs(model))
            if epoch == 1:
                freeze_ranges(model)

    model.fit(3 * rows, np.zeros((64, 3)), epochs=4, callbacks=[Freeze()], verbose=0)
    assert seen[0] != seen[1] == seen[2] == seen[3]


def test_the_switch_is_saved_with_the_weights(mlp, rows, tmp_path):
    model = freeze_ranges(quantize_model(mlp, calibration_data=rows))
    model.save(tmp_path / "frozen.keras")
    again = compiled(keras.saving.load_model(tmp_path / "frozen.keras"))
    again.fit(3 * rows, np.zeros((64, 3)), verbose=0)
    assert highs(again) == highs(model)


def test_a_float_model_is_refused(mlp):
    with pytest.raises(ValueError, match=r"not quantized.*quantize_model"):
        freeze_ranges(mlp)


def test_frozen_statistics_stand_still_while_scales_train(cnn, images):
    quantize_model(cnn, calibration_data=images)
    cnn.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    cnn.fit(images, np.arange(48) % 4, verbose=0)
    freeze_batch_norm(cnn)
    norm = cnn.get_layer("norm")
    mean, gamma = norm.moving_mean.numpy(), norm.gamma.numpy()
    cnn.fit(images, np.arange(48) % 4, verbose=0)
    np.testing.assert_array_equal(norm.moving_mean.numpy(), mean)
    assert (norm.gamma.numpy() != gamma).any()
    freeze_batch_norm(cnn, frozen=False)
    cnn.fit(images, np.arange(48) % 4, verbose=0)
    assert (norm.moving_mean.numpy() != mean).any()


def test_statistics_stay_frozen_in_a_file(cnn, images, tmp_path):
    freeze_batch_norm(quantize_model(cnn, calibration_data=images))
    cnn.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.get_layer("norm").quantizer.statistics_frozen
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), cnn.predict(images, verbose=0)
    )


def test_a_callback_freezes_late(cnn, images):
    quantize_model(cnn, calibration_data=images)
    cnn.compile("sgd", "sparse_categorical_crossentropy")
    means, highs = [], []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            means.append(cnn.get_layer("norm").moving_mean.numpy().sum())
            one = cnn.get_layer("pointwise").quantizer.ranges["output"]
            highs.append(float(one.high.numpy()))

    late = FreezeLate(ranges_at=0.25, batch_norm_at=0.5)
    y = np.arange(48) % 4
    cnn.fit(images, y, epochs=4, verbose=0, callbacks=[late, Watch()])
    assert highs[0] == highs[1] == highs[3]
    assert means[0] != means[1] == means[2] == means[3]


def test_a_share_is_between_0_and_1():
    with pytest.raises(ValueError, match="ranges_at"):
        FreezeLate(ranges_at=2)
