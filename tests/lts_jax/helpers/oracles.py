"""Helpers to compare arrays with those of other libraries."""

from typing import Any

import jax
import numpy as np


def relative_error(ours: Any, reference: Any) -> float:
    """Returns ‖ours − reference‖ / ‖reference‖ in float64."""
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    assert np.isfinite(ours).all()
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def to_nchw(x: Any) -> Any:
    import torch

    return torch.tensor(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))


def to_nhwc(x: Any) -> np.ndarray:
    return x.detach().numpy().transpose(0, 2, 3, 1)


def randomize(variables: Any, seed: int = 0) -> Any:
    """Replaces all parameters, including biases and scales, by random values."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), variables)


def batch_norm_variables(variables: Any, seed: int = 0) -> Any:
    """Replaces the initial BatchNorm scales, biases and statistics by random values."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, x: Any) -> Any:
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 2.0, x.shape).astype(np.float32)
        if name in ("bias", "mean"):
            return rng.normal(0, 0.3, x.shape).astype(np.float32)
        return x

    return jax.tree_util.tree_map_with_path(draw, variables)
