"""Evaluation of trained networks: metrics, result files and statistics."""
