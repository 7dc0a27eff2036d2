"""How providers and frameworks write messages."""

from interruptible._native import native, with_native

__all__ = ["native", "with_native"]
