"""Cancellation and cleanup in any Restate handler; knows nothing of agents."""
