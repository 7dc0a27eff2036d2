"""How providers and frameworks write messages."""

from interruptible._wire.native import native, with_native
from interruptible.formats._alternate import alternating

__all__ = ["alternating", "native", "with_native"]
