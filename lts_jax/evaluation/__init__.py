"""Scores of a trained network, its files, and what is computed from them."""
