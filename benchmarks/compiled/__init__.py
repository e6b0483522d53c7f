"""Compiles programs for devices that are not attached and analyzes them."""
