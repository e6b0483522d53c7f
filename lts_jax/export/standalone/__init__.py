"""Files that are copied into exports; they do not import lts_jax."""
