"""Pure functions that JAX compiles: the training step, inference and scoring."""
