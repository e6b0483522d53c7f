"""Creates the parts of a run from its config or from a checkpoint."""
