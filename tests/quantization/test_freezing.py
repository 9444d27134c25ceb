import keras
import numpy as np
import pytest

from kopt.quantization import freeze_ranges, quantize_model


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
