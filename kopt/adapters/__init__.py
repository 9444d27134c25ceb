"""Adapters of pretrained models (LoRA), on the way to a compressed one."""

from kopt import _registry
from kopt.adapters.merging import merge_lora as merge_lora

__all__ = _registry.names("adapters")
