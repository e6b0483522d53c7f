"""The pure functions that JAX compiles: the training step, inference, scoring."""
