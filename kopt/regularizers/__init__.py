from kopt import _registry
from kopt.regularizers.confidence_penalty import ConfidencePenalty as ConfidencePenalty
from kopt.regularizers.de_cov import DeCov as DeCov
from kopt.regularizers.ewc import EWC as EWC
from kopt.regularizers.fisher import estimate_fisher as estimate_fisher
from kopt.regularizers.group_lasso import GroupLasso as GroupLasso
from kopt.regularizers.hoyer_square import HoyerSquare as HoyerSquare
from kopt.regularizers.kl_sparsity import KLSparsity as KLSparsity
from kopt.regularizers.kure import KURE as KURE
from kopt.regularizers.l1 import L1 as L1
from kopt.regularizers.l1l2 import L1L2 as L1L2
from kopt.regularizers.l2 import L2 as L2
from kopt.regularizers.l2sp import L2SP as L2SP
from kopt.regularizers.nuclear_norm import NuclearNorm as NuclearNorm
from kopt.regularizers.rules import apply as apply
from kopt.regularizers.soft_orthogonal import SoftOrthogonal as SoftOrthogonal
from kopt.regularizers.sparse_group_lasso import SparseGroupLasso as SparseGroupLasso
from kopt.regularizers.spectral_norm import SpectralNorm as SpectralNorm
from kopt.regularizers.srip import SRIP as SRIP
from kopt.regularizers.total_variation import TotalVariation as TotalVariation

__all__ = _registry.names("regularizers")
