"""Reads what an evaluation has written, with the images and the truth beside it; no network."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lts_jax.data import image_ops
from lts_jax.errors import ConfigError
from lts_jax.evaluation import results, schema
from lts_jax.io.array_files import read_arrays
from lts_jax.io.json_files import read_json
from tfds_refcoco import DataError, masks
from tfds_refcoco.records.joint import open_datasets
from tfds_refcoco.records.reader import sentence_mask
from tfds_refcoco.records.split import Split


class Sentence:
    """One sentence, everything at the image's own size."""

    def __init__(self, evaluated: "Evaluated", row: int) -> None:
        self._evaluated, self.row = evaluated, row
        self.entry: dict[str, Any] = evaluated.predictions[row]
        index = evaluated.split.index
        self.record_number = int(index.record[row])
        self._record = evaluated.split.record(self.record_number)
        self.height, self.width = self.entry["segmentation"]["size"]

    def image(self) -> np.ndarray:
        """Uint8 `[h, w, 3]`, RGB."""
        return image_ops.decode_image(self._record["image"])

    def at(self, role: str) -> dict[str, Any]:
        """The mask and what it scored at a threshold, see `lts_jax.evaluation.results.by_role`."""
        summary = self._evaluated.metrics
        is_used = results.by_role(summary)[role] is summary
        found: dict[str, Any] = self.entry if is_used else self.entry["other"]
        return found

    def prediction(self, role: str | None = None) -> np.ndarray:
        """Bool `[h, w]`, at the threshold that was used or at that of a role."""
        part = self.entry if role is None else self.at(role)
        where = f"{self._evaluated.folder / 'predictions.json'}[{self.row}]"
        try:
            mask = results.decode(part["segmentation"])
        except DataError as error:
            raise ConfigError(f"{where}: segmentation: {error} {schema.AGAIN}") from error
        if mask.shape != (self.height, self.width):
            raise ConfigError(f"{where}: other.segmentation: of another size; {schema.AGAIN}")
        return mask

    def truth(self) -> np.ndarray:
        """Bool `[h, w]`."""
        position = int(self._evaluated.split.index.sentence[self.row])
        return masks.decode(sentence_mask(self._record, position), self.height, self.width) > 0

    def heatmaps(self, height: int, width: int) -> list[np.ndarray]:
        """Float32 `[height, width]` in [0, 1] over the image, of each round; none without any."""
        maps = self._evaluated.heatmaps
        if maps is None:
            return []
        data = self._evaluated.run["config"]["data"]
        size = data["image_size"]
        placement = image_ops.place(self.height, self.width, size, data["resize"])
        return [
            image_ops.map_to_image(values / 255, placement, size, height, width)
            for values in maps[self.row].astype(np.float32)
        ]


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A split that was evaluated.

    Attributes:
      folder: `<workdir>/eval/<split>`.
      name: of the split.
      run: what run.json holds.
      predictions: what predictions.json holds.
      split: the data.
    """

    folder: Path
    name: str
    run: dict[str, Any]
    predictions: list[dict[str, Any]]
    split: Split

    @classmethod
    def read(cls, workdir: Path, name: str, data_dir: Path | None = None) -> "Evaluated":
        """Reads the evaluation of a split.

        Args:
          workdir: of the run.
          name: of the split.
          data_dir: where the data sets lie; where the run had them if None.

        Raises:
          ConfigError: a file is missing or bad, or the data is not that which was evaluated.
          tfds_refcoco.DataError: the data is missing.
        """
        folder = workdir / "eval" / name
        run = read_json(folder / "run.json", schema.RUN, schema.AGAIN)
        predictions = read_json(folder / "predictions.json", schema.PREDICTIONS, schema.AGAIN)
        data = run["config"]["data"]
        dataset = open_datasets(data_dir or Path(data["dir"]), data["dataset"], data["train_split"])
        split = dataset.split(name)
        index = split.index
        same = [p["sent_id"] for p in predictions] == index.sent_id.tolist()
        sizes = [p["segmentation"]["size"] for p in predictions]
        if not same or sizes != np.stack([index.height, index.width], axis=1).tolist():
            raise ConfigError(
                f"{folder}: evaluated on other data than {dataset.path}; evaluate again"
            )
        return cls(folder, name, run, predictions, split)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        path = self.folder / "metrics.json"
        found: dict[str, Any] = read_json(path, schema.METRICS, schema.AGAIN)
        if any(("other" in entry) != ("other" in found) for entry in self.predictions):
            raise ConfigError(f"{path}: not of predictions.json beside it; {schema.AGAIN}")
        return found

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """What analysis.json holds."""
        path = self.folder / "analysis.json"
        found: dict[str, Any] = read_json(path, schema.ANALYSIS, schema.AGAIN)
        if ("other" in found) != ("other" in self.metrics):
            raise ConfigError(f"{path}: not of metrics.json beside it; {schema.AGAIN}")
        return found

    @cached_property
    def heatmaps(self) -> np.ndarray | None:
        """Uint8 `[N, rounds, G, G]`, or None."""
        file = self.folder / "heatmaps.npz"
        n, model = len(self.predictions), self.run["config"]["model"]
        if model["locate"] == "none":
            return None
        side = self.run["config"]["data"]["image_size"] // 8
        wanted = {
            "sent_id": (np.int64, (n,)),
            "heatmap": (np.uint8, (n, model["rounds"], side, side)),
        }
        arrays = read_arrays(file, wanted, schema.AGAIN)
        if arrays["sent_id"].tolist() != [p["sent_id"] for p in self.predictions]:
            raise ConfigError(f"{file}: not of predictions.json beside it; {schema.AGAIN}")
        return arrays["heatmap"]

    def sentence(self, row: int) -> Sentence:
        """Reads one sentence."""
        return Sentence(self, row)


def evaluated_splits(workdir: Path) -> tuple[list[str], list[str]]:
    """Finds the evaluations of a workdir, in the order of its config.

    Returns:
      The splits whose evaluation is complete, and those whose evaluation is missing or was
      interrupted: run.json is written last.

    Raises:
      ConfigError: none is complete.
    """
    root = workdir / "eval"
    # Of several data sets a split has its set's name, and a folder in it.
    files = [*root.rglob(".lock"), *root.rglob("run.json")]
    folders = {file.parent.relative_to(root).as_posix(): file.parent for file in sorted(files)}
    complete = [name for name, folder in folders.items() if (folder / "run.json").exists()]
    if not complete:
        started = ", ".join(folders)
        why = f"the evaluation of {started} was interrupted" if started else "nothing evaluated"
        raise ConfigError(f"{workdir}/eval: {why}; lts eval --workdir {workdir}")
    wanted: list[str] = []
    for name in complete:
        run = read_json(workdir / "eval" / name / "run.json", schema.RUN, schema.AGAIN)
        wanted += run["config"]["eval"]["splits"]
    names = list(dict.fromkeys([*wanted, *folders]))
    return [n for n in names if n in complete], [n for n in names if n not in complete]
