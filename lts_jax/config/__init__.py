"""Checks, comparisons and command-line overrides of a config."""
