"""Agent frameworks, one module each: what was done in an interrupted turn is kept."""
