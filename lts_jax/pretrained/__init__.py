"""Reads pretrained weights and word vectors from their published files."""
