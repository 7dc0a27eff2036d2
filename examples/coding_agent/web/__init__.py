"""The agent in a browser; `python -m examples.coding_agent.web`."""
