"""The Agent Client Protocol: what its clients say and are told, and how that is a session's."""
