from kopt import _registry

__all__ = _registry.names("schedules")
