"""The quickstart: a coding agent that every new message interrupts."""
