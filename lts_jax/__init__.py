"""LTS, "Locate then Segment" (Jing et al., CVPR 2021), in JAX."""

__version__ = "0.1.0"
