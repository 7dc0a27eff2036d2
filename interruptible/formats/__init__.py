"""How providers and frameworks write messages."""

from interruptible._alternate import alternating
from interruptible._native import native, with_native

__all__ = ["alternating", "native", "with_native"]
