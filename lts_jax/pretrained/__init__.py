"""Pretrained weights: Darknet53 backbones and word vectors, from their published files."""
