"""From records to batches; NumPy only, no JAX."""
