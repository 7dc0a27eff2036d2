"""The agent in a terminal; `python -m examples.coding_agent.chat`."""
