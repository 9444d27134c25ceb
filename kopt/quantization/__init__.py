from kopt import _registry
from kopt.quantization import _default_rules as _default_rules
from kopt.quantization._common_grid import off_grid as off_grid
from kopt.quantization.annotate import (
    quantize_annotate_layer as quantize_annotate_layer,
)
from kopt.quantization.annotate import (
    quantize_annotate_model as quantize_annotate_model,
)
from kopt.quantization.annotate import quantize_apply as quantize_apply
from kopt.quantization.bias_correction import correct_bias as correct_bias
from kopt.quantization.calibration import calibrate as calibrate
from kopt.quantization.distilling import learn_from as learn_from
from kopt.quantization.equalization import equalize as equalize
from kopt.quantization.float_computation import unrounded as unrounded
from kopt.quantization.freezing import FreezeLate as FreezeLate
from kopt.quantization.freezing import freeze_batch_norm as freeze_batch_norm
from kopt.quantization.freezing import freeze_ranges as freeze_ranges
from kopt.quantization.int4_weights import Int4Weights as Int4Weights
from kopt.quantization.int8 import Int8 as Int8
from kopt.quantization.joins import grids_of_joins as grids_of_joins
from kopt.quantization.quantize import quantize_model as quantize_model
from kopt.quantization.quantize_config import QuantizeConfig as QuantizeConfig
from kopt.quantization.report import quantization_report as quantization_report
from kopt.quantization.rule import Rule as Rule
from kopt.quantization.rule import register_quantize_rule as register_quantize_rule
from kopt.quantization.sensitivity_of_layers import (
    SensitivityReport as SensitivityReport,
)
from kopt.quantization.sensitivity_of_layers import sensitivity as sensitivity
from kopt.quantization.snapping import is_quantized as is_quantized
from kopt.quantization.snapping import snapped as snapped
from kopt.quantization.stripping import strip_quantization as strip_quantization

__all__ = _registry.names("quantization")
