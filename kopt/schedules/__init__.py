from kopt import _registry
from kopt.schedules._base import Schedule as Schedule
from kopt.schedules.cosine import Cosine as Cosine
from kopt.schedules.warmup import Warmup as Warmup

__all__ = _registry.names("schedules")
