from kopt import _registry
from kopt.export.dequantization import dequantize as dequantize
from kopt.export.dequantized_file import DequantizedFile as DequantizedFile
from kopt.export.device_check import DeviceReport as DeviceReport
from kopt.export.device_check import check as check
from kopt.export.errors import ConversionError as ConversionError
from kopt.export.errors import VerificationError as VerificationError
from kopt.export.interpreter import Interpreter as Interpreter
from kopt.export.kernel_distance import KernelDistance as KernelDistance
from kopt.export.report import ExportReport as ExportReport
from kopt.export.saved_model_folder import saved_model as saved_model
from kopt.export.tflite_file import tflite as tflite

__all__ = _registry.names("export")
