import importlib

import numpy as np
import pytest

import kopt
from kopt.export import Interpreter, _file_contents
from kopt.export._file_contents import FileContents, Operation, Tensor


def tensor(index=0, dtype="int8", scales=(0.5,), zero_points=(0,), axis=0):
    scales, zero_points = np.array(scales, "float32"), np.array(zero_points)
    return Tensor("t", index, (2, 3), dtype, scales, zero_points, axis, None, False)


def test_quantizing_is_rounding_to_the_nearest_step():
    values = np.array([-0.3, -0.2, 0.0, 0.3, 0.6])
    stored = tensor(zero_points=(10,)).quantize(values)
    assert stored.dtype == "int8" and stored.tolist() == [9, 10, 10, 11, 11]


def test_quantizing_stops_at_the_ends_of_the_type():
    assert tensor().quantize(np.array([-1e3, 1e3])).tolist() == [-128, 127]
    bytes_ = tensor(dtype="uint8", zero_points=(128,))
    assert bytes_.quantize(np.array([-1e3, 1e3])).tolist() == [0, 255]


def test_dequantizing_undoes_quantizing_for_every_stored_value():
    every = np.arange(-128, 128).astype("int8")
    one = tensor(scales=(0.013,), zero_points=(-7,))
    np.testing.assert_array_equal(one.quantize(one.dequantize(every)), every)


def test_scales_go_along_their_axis():
    channels = tensor(scales=(1.0, 0.5, 0.25), zero_points=(0, 1, 0), axis=1)
    found = channels.dequantize(np.full((2, 3), 4, "int8"))
    np.testing.assert_array_equal(found, [[4.0, 1.5, 1.0]] * 2)


def test_the_range_of_a_tensor_is_that_of_its_type():
    assert tensor(zero_points=(-128,)).real_range == (0.0, 127.5)


def test_the_step_of_a_dequantized_output_is_that_of_the_integers():
    stored = tensor(0)
    output = tensor(1, "float32", (), ())
    contents = FileContents(
        (stored, output), (Operation("DEQUANTIZE", (0,), (1,)),), (), (output,)
    )
    assert contents.step(output) == 0.5
    assert contents.step(stored) == 0.5


def test_a_float_output_has_no_step():
    output = tensor(1, "float32", (), ())
    assert FileContents((output,), (), (), (output,)).step(output) is None


def test_int4_has_two_numbers_a_byte_the_first_in_the_lower_half():
    raw = np.array([0x21, 0x8F], "uint8")
    assert _file_contents._stored(raw, "int4").tolist() == [1, 2, -1, -8]


@pytest.mark.parametrize(
    "module",
    [
        "ai_edge_litert.schema_py_generated",
        "tensorflow.lite.python.schema_py_generated",
    ],
)
def test_both_readers_of_the_format_are_where_they_were(module):
    # A canary: neither is a documented interface.
    schema = importlib.import_module(module)
    assert schema.BuiltinOperator.CONV_2D == 3 and schema.TensorType.INT8 == 9
    assert hasattr(schema.Model, "GetRootAsModel")


@pytest.mark.parametrize("quantization", [None, "float16", "int8"])
def test_what_is_read_is_what_the_runtime_says(tiny, images, tmp_path, quantization):
    from ai_edge_litert.interpreter import Interpreter as Runtime
    from ai_edge_litert.interpreter import OpResolverType

    path = tmp_path / "model.tflite"
    kopt.export.tflite(tiny, path, quantization, images)
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    runtime = Runtime(model_path=str(path), experimental_op_resolver_type=plain)
    details = {entry["index"]: entry for entry in runtime.get_tensor_details()}
    runtime.allocate_tensors()
    for found in Interpreter(path).tensors:
        said = details[found.index]
        assert tuple(said["shape"]) == found.shape
        assert np.dtype(said["dtype"]).name == found.dtype
        parameters = said["quantization_parameters"]
        np.testing.assert_array_equal(parameters["scales"], found.scales)
        np.testing.assert_array_equal(parameters["zero_points"], found.zero_points)
        if found.data is not None:
            np.testing.assert_array_equal(runtime.get_tensor(found.index), found.data)
