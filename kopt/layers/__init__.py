from kopt import _registry
from kopt.layers.drop_block_1d import DropBlock1D as DropBlock1D
from kopt.layers.drop_block_2d import DropBlock2D as DropBlock2D
from kopt.layers.drop_block_3d import DropBlock3D as DropBlock3D
from kopt.layers.drop_connect import DropConnect as DropConnect
from kopt.layers.drop_path import DropPath as DropPath
from kopt.layers.dropout import Dropout as Dropout
from kopt.layers.embedding_dropout import EmbeddingDropout as EmbeddingDropout
from kopt.layers.locked_dropout import LockedDropout as LockedDropout
from kopt.layers.weight_drop import WeightDrop as WeightDrop

__all__ = _registry.names("layers")
