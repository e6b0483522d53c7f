"""Validation, comparison and command-line overrides of configs."""
