from kopt import _registry
from kopt.callbacks.backup_and_restore import BackupAndRestore as BackupAndRestore
from kopt.callbacks.batch_size_ramp import BatchSizeRamp as BatchSizeRamp
from kopt.callbacks.eval_weights import EvalWeights as EvalWeights
from kopt.callbacks.fit_schedule import FitSchedule as FitSchedule
from kopt.callbacks.gradient_monitor import GradientMonitor as GradientMonitor
from kopt.callbacks.gradual_unfreeze import GradualUnfreeze as GradualUnfreeze
from kopt.callbacks.lr_finder import LRFinder as LRFinder
from kopt.callbacks.one_cycle import OneCycle as OneCycle
from kopt.callbacks.overfit_monitor import OverfitMonitor as OverfitMonitor
from kopt.callbacks.progress_report import ProgressReport as ProgressReport
from kopt.callbacks.reduce_on_plateau import ReduceOnPlateau as ReduceOnPlateau
from kopt.callbacks.spike_guard import SpikeGuard as SpikeGuard
from kopt.callbacks.time_stopping import TimeStopping as TimeStopping

__all__ = _registry.names("callbacks")
