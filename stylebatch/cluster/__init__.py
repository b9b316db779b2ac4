"""Driver and workers: the only folder that knows Ray."""
