"""Exports trained networks as StableHLO, ONNX and safetensors."""
