"""The virtual object: what a session keeps, and what its handlers do."""
