from kopt import _registry
from kopt.schedules._base import Schedule as Schedule
from kopt.schedules._pictures import gallery as gallery
from kopt.schedules.constant import Constant as Constant
from kopt.schedules.cosine import Cosine as Cosine
from kopt.schedules.cosine_restarts import CosineRestarts as CosineRestarts
from kopt.schedules.cyclical import Cyclical as Cyclical
from kopt.schedules.exponential import Exponential as Exponential
from kopt.schedules.inverse_sqrt import InverseSqrt as InverseSqrt
from kopt.schedules.inverse_time import InverseTime as InverseTime
from kopt.schedules.linear import Linear as Linear
from kopt.schedules.multi_step import MultiStep as MultiStep
from kopt.schedules.one_cycle import OneCycle as OneCycle
from kopt.schedules.polynomial import Polynomial as Polynomial
from kopt.schedules.rex import REX as REX
from kopt.schedules.scale import Scale as Scale
from kopt.schedules.sequential import Sequential as Sequential
from kopt.schedules.warmup import Warmup as Warmup
from kopt.schedules.wsd import WSD as WSD

__all__ = _registry.names("schedules")
