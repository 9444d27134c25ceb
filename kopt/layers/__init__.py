from kopt import _registry
from kopt.layers.drop_connect import DropConnect as DropConnect
from kopt.layers.drop_path import DropPath as DropPath
from kopt.layers.dropout import Dropout as Dropout

__all__ = _registry.names("layers")
