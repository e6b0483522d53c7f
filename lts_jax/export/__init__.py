"""A trained network for others: StableHLO, ONNX, safetensors."""
