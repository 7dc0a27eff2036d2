"""How providers write messages."""

from interruptible._alternate import alternating

__all__ = ["alternating"]
