from kopt import _registry
from kopt.regularizers.group_lasso import GroupLasso as GroupLasso
from kopt.regularizers.l1 import L1 as L1
from kopt.regularizers.l1l2 import L1L2 as L1L2
from kopt.regularizers.l2 import L2 as L2
from kopt.regularizers.rules import apply as apply

__all__ = _registry.names("regularizers")
