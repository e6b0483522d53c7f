"""Atomic files, drawing and text tables."""
