from kopt import _registry
from kopt.tuning.hyper_cnn import HyperCNN as HyperCNN
from kopt.tuning.hyper_mlp import HyperMLP as HyperMLP
from kopt.tuning.metric_direction import objective as objective

__all__ = _registry.names("tuning")
