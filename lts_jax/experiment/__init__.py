"""A run, resolved once from its config or from its checkpoint."""
