"""The stream of a session: what its turns do, as they do it, for whoever follows."""
