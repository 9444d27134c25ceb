from kopt import _registry
from kopt.evaluation.comparing import Comparison as Comparison
from kopt.evaluation.comparing import compare as compare
from kopt.evaluation.diagnosing import DiagnosisReport as DiagnosisReport
from kopt.evaluation.diagnosing import diagnose as diagnose
from kopt.evaluation.measurement import Measurement as Measurement
from kopt.evaluation.measuring import measure as measure

__all__ = _registry.names("evaluation")
