"""Scores a network on a split, at the images' own sizes."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lts_jax import locator_maps, metrics, sharding, visualize
from lts_jax.data import pipeline, preprocess
from lts_jax.models import LTS
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.steps import Batch, TrainState, compile_encode_step, compile_score_step
from lts_jax.writers import write_json, write_picture
from tfds_refcoco import masks
from tfds_refcoco.reader import Split

SCORES = ("intersection", "union", "pointing")


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """One split with the compiled steps that score it: each image is read and encoded once.

    Attributes:
      model: the network.
      split: the sentences.
      preprocessing: how they become examples.
      encode_step: from `lts_jax.steps.compile_encode_step`.
      score_step: from `lts_jax.steps.compile_score_step`.
      groups: rows of the index that share one encoding of their image.
      batch_size: images per encoding step and sentences per scoring step, over all devices.
      mesh: the devices.
      threads: that read and decode.
    """

    model: LTS
    split: Split
    preprocessing: pipeline.Preprocessing
    encode_step: Callable[[TrainState, jax.Array], ImageFeatures]
    score_step: Callable[[TrainState, ImageFeatures, jax.Array, Batch], dict[str, jax.Array]]
    groups: Sequence[np.ndarray]
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
        return cls(
            model,
            split,
            preprocessing,
            compile_encode_step(model, mesh),
            compile_score_step(model, threshold, pipeline.canvas_of(split), mesh),
            pipeline.rows_by_image(split),
            batch_size,
            mesh,
            threads,
        )

    def scores(self, state: TrainState) -> dict[str, Any]:
        """Computes `lts_jax.metrics.summarize`, and the numbers of `sentences` and `images`."""
        return self._run(state, None)

    def report(self, state: TrainState, out_dir: Path, gallery: int) -> dict[str, Any]:
        """Computes the metrics and writes metrics.json, predictions.json and gallery.png.

        Where the locator is more than one kernel, also maps.png: what it did beside its heatmaps.

        Args:
          state: with the parameters to score.
          out_dir: folder of the files, made where missing.
          gallery: number of sentences to draw, spread evenly over the split.
        """
        index = self.split.index
        n = len(index.sent_id)
        drawn = set(np.linspace(0, n - 1, min(gallery, n)).astype(int).tolist())
        predictions: list[dict[str, Any]] = []
        examples: dict[int, visualize.Example] = {}

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
                heatmaps = out["heatmap"][i] if "heatmap" in out else ()
                examples[row] = self._example(row, iou, heatmaps, prediction)

        scores = self._run(state, collect)
        write_json(out_dir / "metrics.json", scores)
        write_json(out_dir / "predictions.json", predictions)
        if examples:
            write_picture(out_dir / "gallery.png", visualize.draw_gallery([*examples.values()]))
        if examples and self.model.locate in ("word_filter", "transformer"):
            maps = locator_maps.of_sentences(
                self.model, state, self.split, self.preprocessing, list(examples)
            )
            picture = visualize.draw_maps([*examples.values()], maps)
            write_picture(out_dir / "maps.png", picture)
        return scores

    def _run(
        self, state: TrainState, collect: Callable[[int, int, dict[str, np.ndarray]], None] | None
    ) -> dict[str, Any]:
        """Scores every sentence; `collect` sees each row once, in order, with the pictures."""
        n = len(self.split.index.sent_id)
        scores: dict[str, np.ndarray] = {}
        seen = np.zeros(n, np.int64)
        for rows, out in self._outputs(state, pictures=collect is not None):
            real = rows >= 0  # not those that fill the batch up
            np.add.at(seen, rows[real], 1)
            for name in SCORES:
                if name in out:
                    of_all = scores.setdefault(name, np.zeros(n, out[name].dtype))
                    of_all[rows[real]] = out[name][real]
            if collect is not None:
                for i in np.flatnonzero(real):
                    collect(int(rows[i]), int(i), out)
        if not (seen == 1).all():
            raise RuntimeError("evaluation lost or repeated a sentence")
        summary = metrics.summarize(scores["intersection"], scores["union"], scores.get("pointing"))
        return summary | {"sentences": n, "images": self.split.counts.images}

    def _outputs(
        self, state: TrainState, *, pictures: bool
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yields rows and scores by batch, with `pictures` also predictions and heatmaps.

        A batch is fetched after the next one is dispatched, so that the device never waits for the
        host, and no more than two batches' results are held.
        """
        before: tuple[np.ndarray, dict[str, jax.Array]] | None = None
        groups = pipeline.eval_batches(
            self.split,
            self.preprocessing,
            self.groups,
            batch_size=self.batch_size,
            threads=self.threads,
        )
        for images, sentences in groups:
            put = sharding.put_batch({"image": images["image"]}, self.mesh)
            features = self.encode_step(state, put["image"])
            for batch in sentences:
                rows = batch.pop("row")
                out = self.score_step(
                    state, features, images["placement"], sharding.put_batch(batch, self.mesh)
                )
                wanted = {k: v for k, v in out.items() if pictures or k in SCORES}
                if before is not None:
                    yield before[0], jax.device_get(before[1])
                before = rows, wanted
        if before is not None:
            yield before[0], jax.device_get(before[1])

    def _example(
        self, row: int, iou: float, heatmaps: Sequence[np.ndarray], prediction: np.ndarray
    ) -> visualize.Example:
        """Reads the image and the truth once more: few sentences are drawn."""
        index = self.split.index
        record = self.split.record(int(index.record[row]))
        h, w = prediction.shape
        titles = (
            ["heatmap"] if len(heatmaps) == 1 else [f"round {i + 1}" for i in range(len(heatmaps))]
        )
        return visualize.Example(
            image=preprocess.decode_image(record["image"]),
            sentence=index.text[row],
            iou=iou,
            heatmaps={
                t: locator_maps.at_original_size(self.split, self.preprocessing, row, m)
                for t, m in zip(titles, heatmaps, strict=True)
            },
            prediction=prediction,
            truth=pipeline.read_mask(record, int(index.sentence[row]), h, w) > 0,
        )
