"""Scores a network on a split, at the original image sizes."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lts_jax.data import buckets, image_ops, pipeline
from lts_jax.data.examples import Preprocessing, read_mask
from lts_jax.distributed import processes
from lts_jax.distributed.mesh import put_batch
from lts_jax.errors import NonFiniteOutputError
from lts_jax.evaluation import locator_maps, metrics, results
from lts_jax.evaluation.results import SplitResults
from lts_jax.experiment.experiment import Experiment
from lts_jax.experiment.thresholds import Threshold, Thresholds
from lts_jax.io import drawing
from lts_jax.io.files import write_picture
from lts_jax.models import Network
from lts_jax.state.train_state import TrainState
from lts_jax.steps.inference import EncodeStep
from lts_jax.steps.scoring import CURVE, OTHER, ScoreStep
from tfds_refcoco import masks
from tfds_refcoco.records.split import Split


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A split with the compiled steps that score it. Each image is read and encoded once.

    With several processes, each scores a part of the images, and all gather the results.

    Attributes:
      model: the network.
      split: the sentences.
      preprocessing: makes examples from them.
      encode_step: from `lts_jax.steps.inference.compile_encode_step`.
      score_step: from `lts_jax.steps.scoring.compile_score_step`.
      picture_step: the same, with `pictures`.
      groups: rows of the index that share the encoding of their image.
      batch_size: images per encoding step and sentences per scoring step of each device, for
        images up to 640 × 640; smaller for larger images.
      mesh: the devices of this process.
      threads: number of reader threads.
      thresholds: of the predicted masks; only `picture_step` uses `other`.
    """

    model: Network
    split: Split
    preprocessing: Preprocessing
    encode_step: EncodeStep
    score_step: ScoreStep
    picture_step: ScoreStep
    groups: Sequence[np.ndarray]
    batch_size: int
    mesh: Mesh
    threads: int
    thresholds: Thresholds

    @classmethod
    def from_experiment(cls, experiment: Experiment, split: Split) -> "Evaluator":
        """Creates the evaluator of a split from an experiment."""
        return cls(
            experiment.model,
            split,
            experiment.preprocessing,
            experiment.encode_step,
            experiment.score_step,
            experiment.picture_step,
            pipeline.rows_by_image(split),
            experiment.config.eval.batch_size,
            experiment.local_mesh,
            experiment.config.data.threads,
            experiment.thresholds,
        )

    def scores(self, state: TrainState) -> dict[str, Any]:
        """Returns the metrics, the counts `sentences` and `images`, and `threshold_curve`."""
        scored = self.find(state, pictures=False)
        return results.summarize(self.split, scored) | {"threshold_curve": scored.curve}

    def report(self, state: TrainState, out_dir: Path, gallery: int) -> dict[str, Any]:
        """Computes the metrics; writes the files of `lts_jax.evaluation.results` and gallery.png.

        For word filters and transformers, also writes maps.png with the locator's internal maps.
        Only the first process writes.

        Args:
          state: contains the parameters.
          out_dir: output folder; created if missing.
          gallery: number of sentences to draw, evenly spaced over the split.
        """
        scored = self.find(state, pictures=True)
        if jax.process_index() > 0:
            return results.summarize(self.split, scored)
        scores = results.write(self.split, scored, out_dir)
        n = len(scored.counts)
        rows = sorted(set(np.linspace(0, n - 1, min(gallery, n)).astype(int).tolist()))
        examples = [self._example(row, scored) for row in rows]
        if examples:
            write_picture(out_dir / "gallery.png", drawing.draw_gallery(examples))
        if examples and self.model.shows_maps:
            maps = locator_maps.of_sentences(
                self.model, state, self.split, self.preprocessing, rows
            )
            write_picture(out_dir / "maps.png", drawing.draw_maps(examples, maps))
        return scores

    def find(self, state: TrainState, *, pictures: bool) -> SplitResults:
        """Scores every sentence and gathers the results of all processes.

        Args:
          state: contains the parameters.
          pictures: whether to return masks, heatmaps and the second threshold, too.

        Raises:
          NonFiniteOutputError: the network's outputs are not finite.
        """
        n = len(self.split.index.sent_id)
        seen = np.zeros(n, np.int32)
        arrays: dict[str, np.ndarray] = {}
        counts: dict[str, dict[int, str]] = {"": {}, OTHER: {}}
        for rows, out in self._outputs(state, pictures):
            real = rows >= 0  # -1 marks padding
            np.add.at(seen, rows[real], 1)
            for prefix, of_threshold in counts.items():
                packed = out.pop(f"{prefix}prediction", None)
                if packed is not None:
                    for i in np.flatnonzero(real):
                        of_threshold[int(rows[i])] = self._encode(packed[i], int(rows[i]))
            for name, values in out.items():
                if name not in arrays:
                    arrays[name] = np.zeros((n, *values.shape[1:]), values.dtype)
                arrays[name][rows[real]] = values[real]
        arrays, counts = self._together(arrays | {"seen": seen}, counts)
        if not (arrays["seen"] == 1).all():
            raise RuntimeError(
                "a sentence was scored more than once or not at all; report this bug"
            )
        _check_finite(self.split, arrays["finite"], str(np.dtype(self.model.dtype)))

        def at(threshold: Threshold, prefix: str, other: SplitResults | None) -> SplitResults:
            return SplitResults(
                arrays[f"{prefix}intersection"],
                arrays[f"{prefix}union"],
                arrays["area"],
                [counts[prefix][row] for row in sorted(counts[prefix])],
                point=arrays.get("point"),
                hit=arrays.get("hit"),
                heatmap=arrays.get("heatmap"),
                curve=_curve(arrays["curve"]),
                boxes=arrays[f"{prefix}boxes"],
                threshold=threshold,
                other=other,
            )

        used, other = self.thresholds
        with_other = other is not None and f"{OTHER}union" in arrays
        return at(used, "", at(other, OTHER, None) if other and with_other else None)

    def batches(self) -> Iterator[pipeline.EvalGroup]:
        """Yields this process's images and their sentences, the smallest canvases first.

        A device's batches do not depend on the number of devices and processes. Floating-point
        results may depend on a sentence's position in its batch and on the rest of the batch.
        """
        index, devices = self.split.index, self.mesh.size
        for bucket in buckets.buckets(self.groups, index.height, index.width):
            size = buckets.batch_size(self.batch_size, bucket.canvas)
            parts = [bucket.groups[i : i + size] for i in range(0, len(bucket.groups), size)]
            mine = parts[jax.process_index() :: jax.process_count()]
            loaded = iter(
                pipeline.eval_batches(
                    self.split,
                    self.preprocessing,
                    [rows for part in mine for rows in part],
                    canvas=bucket.canvas,
                    batch_size=size,
                    threads=self.threads,
                )
            )
            while of_devices := list(itertools.islice(loaded, devices)):
                yield pipeline.side_by_side(of_devices, devices)

    def _outputs(
        self, state: TrainState, pictures: bool
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Yields rows and their outputs of `lts_jax.steps.scoring.score`.

        A batch is fetched after the next one is dispatched. The device therefore does not wait for
        the host, and the results of at most two batches are in memory.
        """
        step = self.picture_step if pictures else self.score_step
        before: tuple[np.ndarray, dict[str, jax.Array]] | None = None
        for images, sentences in self.batches():
            put = put_batch(images, self.mesh)
            features = self.encode_step(state, put["image"])
            for batch in sentences:
                rows = batch.pop("row")
                out = step(state, features, put["placement"], put_batch(batch, self.mesh))
                if before is not None:
                    yield before[0], jax.device_get(before[1])
                before = rows, out
        if before is not None:
            yield before[0], jax.device_get(before[1])

    def _encode(self, packed: np.ndarray, row: int) -> str:
        h, w = int(self.split.index.height[row]), int(self.split.index.width[row])
        return masks.encode(np.unpackbits(packed[:h], axis=1, count=w)).decode("ascii")

    def _together(
        self, arrays: dict[str, np.ndarray], counts: dict[str, dict[int, str]]
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[int, str]]]:
        """Combines the results of all processes: each row is nonzero in only one of them."""
        if jax.process_count() == 1:
            return arrays, counts
        gathered = {}
        for prefix, mine in counts.items():
            parts = processes.gather_bytes(json.dumps(sorted(mine.items())).encode())
            gathered[prefix] = {int(row): text for part in parts for row, text in json.loads(part)}
        return processes.sum_over_processes(arrays), gathered

    def _example(self, row: int, scored: SplitResults) -> drawing.Example:
        """Makes a picture's data; reads the image and the ground truth again."""
        index = self.split.index
        record = self.split.record(int(index.record[row]))
        h, w = int(index.height[row]), int(index.width[row])
        maps = () if scored.heatmap is None else scored.heatmap[row] / np.float32(255)
        titles = ["heatmap"] if len(maps) == 1 else [f"round {i + 1}" for i in range(len(maps))]
        return drawing.Example(
            image=image_ops.decode_image(record["image"]),
            sentence=index.text[row],
            iou=float(metrics.iou(scored.intersection[row], scored.union[row])),
            heatmaps={
                t: locator_maps.at_original_size(self.split, self.preprocessing, row, m)
                for t, m in zip(titles, maps, strict=True)
            },
            prediction=masks.decode(scored.counts[row].encode(), h, w) > 0,
            truth=read_mask(record, int(index.sentence[row]), h, w) > 0,
        )


def _check_finite(split: Split, finite: np.ndarray, dtype: str) -> None:
    """Raises NonFiniteOutputError if an output is not finite."""
    if finite.all():
        return
    ids = split.index.sent_id[~finite]
    raise NonFiniteOutputError(
        f"the network's outputs are not finite for {len(ids)} of {len(finite)} sentences of "
        f"{'+'.join(split.names)}, for example sent_id {ids[0]} (model.dtype={dtype}): training "
        "diverged or the weights are damaged; select another checkpoint with --checkpoint"
    )


def _curve(counts: np.ndarray) -> dict[str, list[float]]:
    """Computes oIoU and mIoU per threshold from intersections and unions `[N, 2, thresholds]`."""
    intersection, union = counts[:, 0], counts[:, 1]
    total = np.maximum(union.sum(axis=0, dtype=np.int64), 1)
    return {
        "threshold": list(CURVE),
        "oiou": (intersection.sum(axis=0, dtype=np.int64) / total).tolist(),
        "miou": metrics.iou(intersection, union).mean(axis=0).tolist(),
    }
