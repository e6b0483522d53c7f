"""LTS, "Locate then Segment" (Jing et al., CVPR 2021), in JAX."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lts_jax.predict import Predictor as Predictor


def __getattr__(name: str) -> Any:
    """Imports `Predictor` when it is asked for: the package itself stays light."""
    if name == "Predictor":
        from lts_jax.predict import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
