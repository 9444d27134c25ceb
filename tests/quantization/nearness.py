"""How far the integer file of a quantized model is from the model, value by value."""

import keras
import numpy as np

import kopt


def steps_apart(model, data, path, **options):
    """The distance of file and model, in steps of the output's range, and the report.

    The model is quantized on the data if it is not yet.
    """
    if not kopt.quantization.is_quantized(model):
        kopt.quantization.quantize_model(model, calibration_data=data)
    expected = np.asarray(model.predict(data, verbose=0))
    report = kopt.export.tflite(model, path, verify=False, **options)
    found = kopt.export.Interpreter(path).predict(data)
    step = np.ptp(expected) / 255
    return np.abs(np.reshape(found, expected.shape) - expected) / step, report


def stddev(deviation):
    return keras.initializers.RandomNormal(stddev=deviation, seed=1)
