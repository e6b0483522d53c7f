"""Training steps and inference of `TorchLTS`, with PyTorch's fastest settings.

On a GPU, these are channels_last, cudnn.benchmark, fused Adam, `torch.compile` with
mode="max-autotune", and autocast for bfloat16. On a CPU, both memory formats are timed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peer.lts import TorchLTS, loss
from benchmarks.peer.weights import to_torch

# Autotuning takes hours on a CPU.
WAYS = ("torch eager", "torch channels_last") + (
    ("torch compiled",) if torch.cuda.is_available() else ()
)


def peak_memory() -> int | None:
    """Returns PyTorch's peak memory on the GPU, bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


class TorchSteps:
    """The PyTorch counterpart of a JAX network, run with one memory format.

    Args:
      way: one of `WAYS`.
      fields: fields of `lts_jax.models.LTS`, without `dtype`.
      variables: parameters and statistics of the network.
      batch: `image` uint8 `[B, H, W, 3]`, `tokens`, `length`, `truth4`, `truth8`.
      bfloat16: whether to run under autocast.
      location_weight: λ of the loss.
    """

    def __init__(
        self,
        way: str,
        fields: Mapping[str, Any],
        variables: Mapping[str, Any],
        batch: Mapping[str, np.ndarray],
        *,
        bfloat16: bool,
        location_weight: float,
    ) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        # JAX's default for float32 on these GPUs.
        torch.set_float32_matmul_precision("high" if self._device.type == "cuda" else "highest")
        torch.backends.cudnn.allow_tf32 = True
        words = batch["tokens"].shape[1]
        model = TorchLTS(**fields, max_words=words)
        model.load_state_dict(to_torch(variables, model))
        plain = way == "torch eager"
        self._format = torch.contiguous_format if plain else torch.channels_last
        self._model = model.to(self._device).to(memory_format=self._format)  # type: ignore[call-overload]
        self._bfloat16, self._location_weight = bfloat16, location_weight
        compiled = way == "torch compiled"
        mode = "max-autotune"
        self._run = torch.compile(self._model, mode=mode) if compiled else self._model
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-3, fused=True)
        self._batch = {k: torch.from_numpy(v).to(self._device) for k, v in batch.items()}

    def _forward(self) -> Any:
        batch = self._batch
        image = batch["image"].permute(0, 3, 1, 2).float().div(255)
        image = image.contiguous(memory_format=self._format)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            return self._run(image, batch["tokens"], batch["length"])

    def training(self, steps: int) -> Callable[[], None]:
        """Returns a function that runs `steps` training steps and waits for the device."""
        self._model.train()
        truth4, truth8 = (self._batch[f"truth{k}"].float() for k in (4, 8))

        def run() -> None:
            for _ in range(steps):
                self._optimizer.zero_grad(set_to_none=True)
                value: Tensor = loss(self._forward(), truth4, truth8, self._location_weight)
                value.backward()
                self._optimizer.step()
            self._wait()

        return run

    def inference(self, steps: int) -> Callable[[], None]:
        """Returns a function that evaluates `steps` batches and waits for the device."""
        self._model.eval()

        @torch.inference_mode()
        def run() -> None:
            for _ in range(steps):
                self._forward()
            self._wait()

        return run

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
