"""Scores predictions of any model; does not require JAX.

Predictions are a JSON list of `{"sent_id": 17, "segmentation": {"size": [h, w], "counts": RLE}}`
(COCO's RLE, compressed or uncompressed), or a folder of masks `<sent_id>.png` at the original image
sizes, with 0 for the background and one other value for the foreground. The JSON entries may also
contain a `point` `[column, row]` each, for the pointing metric.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lts_jax.errors import ConfigError
from lts_jax.evaluation import metrics, results
from lts_jax.io.json_files import anything, list_of, read_json
from tfds_refcoco import DataError, masks
from tfds_refcoco.records.reader import sentence_mask
from tfds_refcoco.records.split import Split

_MANY = 5  # most ids and predictions listed in an error


class Predictions:
    """Predicted masks and points by sent_id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._masks: dict[int, Any] = {}
        self.points: dict[int, tuple[int, int]] = {}
        if path.is_dir():
            for file in sorted(path.glob("*.png")):
                if not file.stem.isdecimal():
                    raise DataError(f"{file}: expected a file name <sent_id>.png, such as 17.png.")
                self._add(int(file.stem), file, str(file))
            return
        try:
            entries = read_json(path, list_of(anything), "see lts score --help for the format")
        except ConfigError as error:
            raise DataError(f"{error}.") from error
        for number, entry in enumerate(entries):
            where = f"{path}[{number}]"
            if not isinstance(entry, dict) or type(entry.get("sent_id")) is not int:
                raise DataError(f"{where}: sent_id: expected an integer.")
            if not isinstance(entry.get("segmentation"), dict):
                raise DataError(
                    f"{where}: segmentation: expected COCO's RLE, "
                    '{"size": [h, w], "counts": RLE}.'
                )
            self._add(entry["sent_id"], entry["segmentation"], where)
            if (point := entry.get("point")) is not None:
                if not (isinstance(point, list) and [type(x) for x in point] == [int, int]):
                    raise DataError(f"{where}: point: expected two integers [column, row].")
                self.points[entry["sent_id"]] = point[0], point[1]

    def _add(self, sent_id: int, mask: Any, where: str) -> None:
        if sent_id in self._masks:
            raise DataError(f"{where}: sent_id {sent_id} is repeated; keep one prediction for it.")
        self._masks[sent_id] = mask

    def check(self, wanted: np.ndarray, split: str) -> None:
        """Raises DataError if the sent_ids are not those of the split."""
        known, predicted = set(wanted.tolist()), set(self._masks)
        if missing := sorted(known - predicted):
            raise DataError(
                f"{self.path}: no prediction for {len(missing)} of the {len(known)} sentences of "
                f"{split}, for example sent_id {missing[:_MANY]}; provide one mask per sentence, "
                "empty if nothing is predicted."
            )
        if strange := sorted(predicted - known):
            raise DataError(
                f"{self.path}: {len(strange)} sent_ids are not in {split}, for example "
                f"{strange[:_MANY]}; check --split and --dataset."
            )
        if self.points and len(self.points) < len(known):
            raise DataError(
                f"{self.path}: point: only {len(self.points)} of {len(known)} sentences have one; "
                "provide a point for all sentences or for none."
            )

    def mask(self, sent_id: int, height: int, width: int) -> np.ndarray:
        """Decodes a predicted mask, bool `[height, width]`."""
        mask = self._masks[sent_id]
        where = f"{self.path}: sent_id {sent_id}"
        try:
            if isinstance(mask, dict):
                counts = masks.from_segmentation(mask, height, width)
                return masks.decode(counts, height, width) > 0
            with Image.open(mask, formats=("PNG",)) as picture:  # ignores the file name
                pixels = np.asarray(picture)
        except Exception as error:  # decoders raise many types
            raise DataError(f"{where}: {error}") from error
        if pixels.shape != (height, width):
            raise DataError(
                f"{where}: {mask.name} has shape {list(pixels.shape)}, expected one channel of "
                f"{[height, width]}."
            )
        if ((pixels != 0) & (pixels != pixels.max())).any():
            values = np.unique(pixels)
            shown = ", ".join(map(str, values[:_MANY])) + (", …" if len(values) > _MANY else "")
            raise DataError(
                f"{where}: {mask.name} contains the values {shown}; expected 0 and one other "
                "value. Binarize probabilities with a threshold."
            )
        return pixels > 0


def score(split: Split, predictions: Predictions) -> results.SplitResults:
    """Compares each predicted mask with the ground truth.

    Raises:
      DataError: a prediction is missing, unexpected, malformed or of the wrong size.
    """
    index = split.index
    predictions.check(index.sent_id, "+".join(split.names))
    n = len(index.sent_id)
    intersection, union, area = (np.zeros(n, np.int32) for _ in range(3))
    boxes = np.zeros((n, 2, 4), np.int32)
    hit, counts = np.zeros(n, bool), []
    faults: list[str] = []
    number, record = -1, None
    for row in range(n):
        if record is None or number != index.record[row]:
            number = int(index.record[row])
            record = split.record(number)
        sent_id, h, w = int(index.sent_id[row]), int(index.height[row]), int(index.width[row])
        truth = masks.decode(sentence_mask(record, int(index.sentence[row])), h, w) > 0
        try:
            mask = predictions.mask(sent_id, h, w)
        except DataError as error:
            faults.append(str(error))
            continue
        intersection[row], union[row] = (mask & truth).sum(), (mask | truth).sum()
        area[row] = truth.sum()
        boxes[row] = metrics.box(mask), metrics.box(truth)
        counts.append(masks.encode(mask).decode("ascii"))
        if predictions.points:
            x, y = predictions.points[sent_id]
            hit[row] = 0 <= x < w and 0 <= y < h and truth[y, x]
    if faults:
        some = "\n  ".join(faults[:_MANY]) + ("\n  …" if len(faults) > _MANY else "")
        raise DataError(f"{len(faults)} of {n} predictions cannot be scored:\n  {some}")
    pointed = bool(predictions.points)
    points = np.array([predictions.points[int(i)] for i in index.sent_id]) if pointed else None
    return results.SplitResults(
        intersection,
        union,
        area,
        counts,
        point=points,
        hit=hit if pointed else None,
        boxes=boxes,
    )
