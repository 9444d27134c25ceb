from kopt import _registry
from kopt.pruning.best_after_pruning import BestAfterPruning as BestAfterPruning
from kopt.pruning.callbacks import PruningSummaries as PruningSummaries
from kopt.pruning.callbacks import UpdatePruningStep as UpdatePruningStep
from kopt.pruning.constant_sparsity import ConstantSparsity as ConstantSparsity
from kopt.pruning.cosine_decay import CosineDecay as CosineDecay
from kopt.pruning.filters import filter_report as filter_report
from kopt.pruning.gradient import Gradient as Gradient
from kopt.pruning.movement import Movement as Movement
from kopt.pruning.one_shot import OneShot as OneShot
from kopt.pruning.polynomial_decay import PolynomialDecay as PolynomialDecay
from kopt.pruning.prune import prune_low_magnitude as prune_low_magnitude
from kopt.pruning.removal import remove_filters as remove_filters
from kopt.pruning.report import sparsity_report as sparsity_report
from kopt.pruning.rewinding import rewind as rewind
from kopt.pruning.strip import strip_pruning as strip_pruning
from kopt.pruning.xnnpack_policy import (
    PruneForLatencyOnXNNPack as PruneForLatencyOnXNNPack,
)

__all__ = _registry.names("pruning")
