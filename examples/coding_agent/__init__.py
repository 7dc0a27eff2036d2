"""A coding agent that people can really redirect; `python -m examples.coding_agent serve`."""
