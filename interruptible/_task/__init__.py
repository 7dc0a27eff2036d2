"""One task's life: from its wait for earlier turns to its outcome."""
