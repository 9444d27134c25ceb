"""All laws, by name."""

from tests.generated.compression_laws import files, keeping, training
from tests.generated.compression_laws.law import LAWS as LAWS

__all__ = ["LAWS", "files", "keeping", "training"]
