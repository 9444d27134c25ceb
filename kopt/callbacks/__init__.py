from kopt import _registry
from kopt.callbacks.backup_and_restore import BackupAndRestore as BackupAndRestore
from kopt.callbacks.eval_weights import EvalWeights as EvalWeights
from kopt.callbacks.fit_schedule import FitSchedule as FitSchedule
from kopt.callbacks.lr_finder import LRFinder as LRFinder
from kopt.callbacks.reduce_on_plateau import ReduceOnPlateau as ReduceOnPlateau
from kopt.callbacks.time_stopping import TimeStopping as TimeStopping

__all__ = _registry.names("callbacks")
