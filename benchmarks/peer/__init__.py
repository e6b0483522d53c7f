"""The same network, input pipeline and evaluation in PyTorch, to compare with."""
