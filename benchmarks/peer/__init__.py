"""PyTorch implementations of the network, input pipeline and evaluation, for comparison."""
