from kopt import _registry
from kopt.tfmot.clustering import cluster_weights as cluster_weights
from kopt.tfmot.copying import copy_weights as copy_weights
from kopt.tfmot.errors import UnsupportedLayerError as UnsupportedLayerError
from kopt.tfmot.fit import Fit as Fit
from kopt.tfmot.from_older import from_tf_keras as from_tf_keras
from kopt.tfmot.pruning import prune_low_magnitude as prune_low_magnitude
from kopt.tfmot.quantization import quantize_model as quantize_model
from kopt.tfmot.quantized_file import QuantizedFile as QuantizedFile
from kopt.tfmot.to_older import to_tf_keras as to_tf_keras

__all__ = _registry.names("tfmot")
