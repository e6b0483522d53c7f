"""Scores a network on a split, at the images' own sizes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lts_jax import mapping, metrics, sharding, visualize
from lts_jax.data import pipeline, preprocess
from lts_jax.models import LTS
from lts_jax.steps import TrainState, compile_eval_step
from lts_jax.writers import write_json, write_picture
from tfds_refcoco import masks
from tfds_refcoco.reader import Split

SCORES = ("intersection", "union", "pointing")


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One split with the compiled step that scores it.

    Attributes:
      split: the sentences.
      preprocessing: how they become examples.
      eval_step: from `lts_jax.steps.compile_eval_step`.
      batch_size: sentences per step, over all devices.
      mesh: the devices.
      threads: that read and decode.
    """

    split: Split
    preprocessing: pipeline.Preprocessing
    eval_step: Callable[[TrainState, dict[str, Any]], dict[str, jax.Array]]
    batch_size: int
    mesh: Mesh
    threads: int

    @classmethod
    def create(
        cls,
        model: LTS,
        split: Split,
        preprocessing: pipeline.Preprocessing,
        *,
        threshold: float,
        batch_size: int,
        mesh: Mesh,
        threads: int,
    ) -> "Evaluator":
        """Compiles nothing yet; the first batch does."""
        sharding.check_batch_size("eval.batch_size", batch_size, mesh)
        step = compile_eval_step(model, threshold, pipeline.canvas_of(split), mesh)
        return cls(split, preprocessing, step, batch_size, mesh, threads)

    def scores(self, state: TrainState) -> dict[str, float]:
        """Computes the metrics, with the numbers of `sentences` and `images`."""
        return self._run(state, None)

    def report(self, state: TrainState, out_dir: Path, gallery: int) -> dict[str, float]:
        """Computes the metrics and writes metrics.json, predictions.json and gallery.png.

        Args:
          state: with the parameters to score.
          out_dir: folder of the three files, made where missing.
          gallery: number of sentences to draw, spread evenly over the split.
        """
        index = self.split.index
        n = len(index.sent_id)
        drawn = set(np.linspace(0, n - 1, min(gallery, n)).astype(int).tolist())
        predictions: list[dict[str, Any]] = []
        examples: list[visualize.Example] = []

        def collect(row: int, i: int, out: dict[str, np.ndarray]) -> None:
            h, w = int(index.height[row]), int(index.width[row])
            prediction = out["prediction"][i, :h, :w]
            intersection, union = out["intersection"][i], out["union"][i]
            iou = float(metrics.iou(intersection, union))
            predictions.append(
                {
                    "sent_id": int(index.sent_id[row]),
                    "ref_id": int(index.ref_id[row]),
                    "image_id": int(index.image_id[row]),
                    "sentence": index.text[row],
                    "iou": iou,
                    "intersection": int(intersection),
                    "union": int(union),
                    "segmentation": {
                        "size": [h, w],
                        "counts": masks.encode(prediction.astype(np.uint8)).decode("ascii"),
                    },
                }
            )
            if row in drawn:
                examples.append(self._example(row, iou, out["heatmap"][i], prediction))

        scores = self._run(state, collect)
        write_json(out_dir / "metrics.json", scores)
        write_json(out_dir / "predictions.json", predictions)
        if examples:
            write_picture(out_dir / "gallery.png", visualize.draw_gallery(examples))
        return scores

    def _run(
        self, state: TrainState, collect: Callable[[int, int, dict[str, np.ndarray]], None] | None
    ) -> dict[str, float]:
        """Scores every sentence; `collect` sees each row once, in order, with the pictures."""
        n = len(self.split.index.sent_id)
        intersection, union = np.zeros(n, np.int64), np.zeros(n, np.int64)
        pointing, seen = np.zeros(n, bool), np.zeros(n, np.int64)
        batches = pipeline.eval_batches(
            self.split, self.preprocessing, batch_size=self.batch_size, threads=self.threads
        )
        for batch in batches:
            rows = batch.pop("row")
            on_device = self.eval_step(state, sharding.put_batch(batch, self.mesh))
            wanted = SCORES if collect is None else on_device
            out = {k: np.asarray(on_device[k]) for k in wanted}
            for i, row in enumerate(rows):
                if row >= 0:
                    intersection[row] = out["intersection"][i]
                    union[row] = out["union"][i]
                    pointing[row] = out["pointing"][i]
                    seen[row] += 1
                    if collect is not None:
                        collect(int(row), i, out)
        if not (seen == 1).all():
            raise RuntimeError("evaluation lost or repeated a sentence")
        counts = {"sentences": n, "images": self.split.counts.images}
        return metrics.summarize(intersection, union, pointing) | counts

    def _example(
        self, row: int, iou: float, heatmap: np.ndarray, prediction: np.ndarray
    ) -> visualize.Example:
        h, w = prediction.shape
        record = self.split.record(int(self.split.index.record[row]))
        _, truth, placement = self.preprocessing.inputs(self.split, row)
        stride = self.preprocessing.image_size // heatmap.shape[0]
        full = mapping.to_original_size(
            jnp.asarray(heatmap)[None], jnp.array([placement], jnp.int32), (h, w), stride
        )
        return visualize.Example(
            image=preprocess.decode_image(record["image"]),
            sentence=self.split.index.text[row],
            iou=iou,
            heatmap=np.asarray(full[0]),
            prediction=prediction,
            truth=truth > 0,
        )
