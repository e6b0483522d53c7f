"""From records to batches. Uses NumPy only, not JAX."""
