"""A trained network on any photo."""
