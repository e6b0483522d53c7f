"""LTS, "Locate then Segment" (Jing et al., CVPR 2021), in JAX."""

from typing import TYPE_CHECKING, Any

from lts_jax.io.console import VERSION

if TYPE_CHECKING:
    from lts_jax.inference.predictor import Predictor as Predictor

__version__ = VERSION
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports `Predictor` when it is used: the package itself stays light."""
    if name == "Predictor":
        from lts_jax.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
