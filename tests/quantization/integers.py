"""TensorFlow's converter and interpreter, called as plainly as can be."""

import collections

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from kopt.quantization import snapped


class Integers:
    """A full-integer file made from a quantized model, and what it computes."""

    def __init__(self, model):
        specs = [tf.TensorSpec((1, *one.shape[1:])) for one in model.inputs]
        with snapped(model):
            graph = tf.function(
                lambda *x: model(x[0] if len(x) == 1 else list(x), training=False)
            ).get_concrete_function(*specs)
            frozen = convert_to_constants.convert_variables_to_constants_v2(graph)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
            self.interpreter = tf.lite.Interpreter(model_content=converter.convert())
        self.interpreter.allocate_tensors()
        self.inputs = sorted(
            self.interpreter.get_input_details(), key=lambda one: one["name"]
        )
        (self.output,) = self.interpreter.get_output_details()
        self.tensors = self.interpreter.get_tensor_details()

    @property
    def float_tensors(self):
        return [one["name"] for one in self.tensors if one["dtype"] == np.float32]

    @property
    def operations(self):
        # The delegate's own node stands for those that it takes over.
        names = [one["op_name"] for one in self.interpreter._get_ops_details()]
        return collections.Counter(name for name in names if name != "DELEGATE")

    @property
    def step(self):
        return self.output["quantization"][0]

    def __call__(self, *inputs):
        results = []
        for sample in zip(*inputs, strict=True):
            for detail, values in zip(self.inputs, sample, strict=True):
                scale, zero_point = detail["quantization"]
                stored = np.clip(np.round(values / scale) + zero_point, -128, 127)
                self.interpreter.set_tensor(
                    detail["index"], stored[None].astype("int8")
                )
            self.interpreter.invoke()
            stored = self.interpreter.get_tensor(self.output["index"])[0]
            scale, zero_point = self.output["quantization"]
            results.append(scale * (stored.astype("float32") - zero_point))
        return np.stack(results)
