"""Evaluation in PyTorch: scores a split at the original image sizes.

It uses the decoded batches of lts_jax. PyTorch computes the network, the mapping to each image
size, and the intersections and unions, in channels_last, compiled on a GPU, and under autocast if
the network uses bfloat16.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional

from benchmarks.network import fields_of
from benchmarks.peer.lts import TorchLTS
from benchmarks.peer.weights import to_torch
from lts_jax.distributed.mesh import make_mesh
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.state.train_state import TrainState, variables_of


class TorchEvaluator:
    """Scores the same sentences as an `Evaluator` and encodes the same images.

    Args:
      ours: the evaluator whose network and batches are used.
      state: state with the network's parameters.
      threshold: pixels with a greater probability are foreground.
    """

    def __init__(self, ours: Evaluator, state: TrainState, threshold: float) -> None:
        # Batches for one device, regardless of the number of JAX devices.
        self._ours = dataclasses.replace(ours, mesh=make_mesh(jax.devices()[:1]))
        self._threshold = threshold
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        if self._device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # JAX's default on GPUs
        twin: Any = TorchLTS(**fields_of(ours.model), max_words=ours.preprocessing.max_words)
        twin.load_state_dict(to_torch(jax.device_get(variables_of(state)), twin))
        twin = twin.eval().to(self._device).to(memory_format=torch.channels_last)
        self._bfloat16 = ours.model.dtype == "bfloat16"
        self._encode_image, self._refer = twin.encode_image, twin.refer
        self._encode_text = twin.encode_text
        if self._device.type == "cuda":
            self._encode_image, self._refer = map(torch.compile, (self._encode_image, self._refer))

    @torch.inference_mode()
    def scores(self) -> dict[str, float]:
        """Returns oIoU and mIoU."""
        n = len(self._ours.split.index.sent_id)
        intersection, union = np.zeros(n, np.int64), np.zeros(n, np.int64)
        for images, sentences in self._ours.batches():
            pixels = self._put(images["image"]).permute(0, 3, 1, 2).float().div(255)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                features = self._encode_image(pixels.contiguous(memory_format=torch.channels_last))
            for batch in sentences:
                rows = batch["row"]
                counts = self._score(features, images["placement"], batch)
                real = rows >= 0
                both, either = (x.cpu().numpy()[real] for x in counts)
                intersection[rows[real]], union[rows[real]] = both, either
        iou = np.where(union > 0, intersection / np.maximum(union, 1), 0)
        return {"oiou": float(intersection.sum() / union.sum()), "miou": float(iou.mean())}

    def _score(self, features: Any, placement: np.ndarray, batch: Any) -> tuple[Any, Any]:
        """Returns intersections and unions of a batch."""
        image = torch.from_numpy(batch["image"]).long()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            text = self._encode_text(self._put(batch["tokens"]), self._put(batch["length"]))
            of_sentence = type(features)(*(x[image.to(self._device)] for x in features))
            mask = self._refer(of_sentence, text).mask.float().sigmoid()
        truth = self._put(np.unpackbits(batch["truth"], axis=-1)) > 0
        places = self._put(placement)[image.to(self._device)]
        size = self._ours.preprocessing.image_size
        axes = [
            self._in_input(n, places[:, axis], places[:, 2 + axis], places[:, 4 + axis], size)
            for axis, n in enumerate(truth.shape[1:])
        ]
        (rows, inside_rows), (columns, inside_columns) = axes
        grid = torch.stack(
            [
                columns[:, None, :].expand(-1, truth.shape[1], -1),
                rows[:, :, None].expand(-1, -1, truth.shape[2]),
            ],
            dim=-1,
        )
        probability = functional.grid_sample(
            mask[:, None], grid, padding_mode="border", align_corners=False
        )[:, 0]
        inside = inside_rows[:, :, None] & inside_columns[:, None, :]
        prediction = (probability > self._threshold) & inside
        both = (prediction & truth).sum(dim=(1, 2))
        return both, prediction.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) - both

    def _in_input(self, n: int, source: Any, offset: Any, fitted: Any, size: int) -> Any:
        """Returns the pixel positions in the square input, from -1 to 1, and which are valid."""
        pixel = torch.arange(n, device=self._device)
        place = (pixel + 0.5) * (fitted / source)[:, None] + offset[:, None]
        return 2 * place / size - 1, pixel < source[:, None]

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)
