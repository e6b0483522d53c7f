"""Atomic file writes, validated JSON and .npz files, drawing, and text tables."""
