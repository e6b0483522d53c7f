"""Reads the files of an evaluation with the images and the ground truth; runs no network."""

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
    """One evaluated sentence, at the original image size."""

    def __init__(self, evaluated: "Evaluated", row: int) -> None:
        self._evaluated, self.row = evaluated, row
        self.entry: dict[str, Any] = evaluated.predictions[row]
        index = evaluated.split.index
        self.record_number = int(index.record[row])
        self._record = evaluated.split.record(self.record_number)
        self.height, self.width = self.entry["segmentation"]["size"]

    def image(self) -> np.ndarray:
        """Returns the image, uint8 `[h, w, 3]`, RGB."""
        return image_ops.decode_image(self._record["image"])

    def at(self, role: str) -> dict[str, Any]:
        """Returns the mask and its scores at the threshold of a role; see `results.by_role`."""
        summary = self._evaluated.metrics
        is_used = results.by_role(summary)[role] is summary
        part: dict[str, Any] = self.entry if is_used else self.entry["other"]
        return part

    def prediction(self, role: str | None = None) -> np.ndarray:
        """Returns the predicted mask, bool `[h, w]`, at the first threshold or that of a role."""
        part = self.entry if role is None else self.at(role)
        where = f"{self._evaluated.folder / 'predictions.json'}[{self.row}]"
        try:
            mask = results.decode(part["segmentation"])
        except DataError as error:
            raise ConfigError(f"{where}: segmentation: {error} {schema.AGAIN}") from error
        if mask.shape != (self.height, self.width):
            raise ConfigError(
                f"{where}: other.segmentation: size {list(mask.shape)}, expected "
                f"{[self.height, self.width]}; {schema.AGAIN}"
            )
        return mask

    def truth(self) -> np.ndarray:
        """Returns the ground truth, bool `[h, w]`."""
        position = int(self._evaluated.split.index.sentence[self.row])
        return masks.decode(sentence_mask(self._record, position), self.height, self.width) > 0

    def heatmaps(self, height: int, width: int) -> list[np.ndarray]:
        """Returns the heatmap of each round, float32 `[height, width]` in [0, 1]; may be empty."""
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
    """The evaluation of a split.

    Attributes:
      folder: `<workdir>/eval/<split>`.
      name: of the split.
      run: content of run.json.
      predictions: content of predictions.json.
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
          data_dir: folder of the datasets; None uses the run's `data.dir`.

        Raises:
          ConfigError: a file is missing or invalid, or the data is not the evaluated data.
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
                f"{folder}: evaluated on other data than {dataset.path}; {schema.AGAIN}"
            )
        return cls(folder, name, run, predictions, split)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        path = self.folder / "metrics.json"
        summary: dict[str, Any] = read_json(path, schema.METRICS, schema.AGAIN)
        if any(("other" in entry) != ("other" in summary) for entry in self.predictions):
            raise ConfigError(
                f"{path} does not match predictions.json in this folder; {schema.AGAIN}"
            )
        return summary

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """The content of analysis.json."""
        path = self.folder / "analysis.json"
        analysis: dict[str, Any] = read_json(path, schema.ANALYSIS, schema.AGAIN)
        if ("other" in analysis) != ("other" in self.metrics):
            raise ConfigError(f"{path} does not match metrics.json in this folder; {schema.AGAIN}")
        return analysis

    @cached_property
    def heatmaps(self) -> np.ndarray | None:
        """The content of heatmaps.npz, uint8 `[N, rounds, G, G]`; None without a locator."""
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
            raise ConfigError(
                f"{file} does not match predictions.json in this folder; {schema.AGAIN}"
            )
        return arrays["heatmap"]

    def sentence(self, row: int) -> Sentence:
        """Returns the sentence of a row."""
        return Sentence(self, row)


def evaluated_splits(workdir: Path) -> tuple[list[str], list[str]]:
    """Lists the evaluated splits of a workdir, in the order of its config.

    Returns:
      The splits with a complete evaluation, and those with a missing or interrupted one. An
      evaluation is complete if run.json exists, which is written last.

    Raises:
      ConfigError: no evaluation is complete.
    """
    root = workdir / "eval"
    # With several datasets, a split's folder is in the folder of its dataset.
    files = [*root.rglob(".lock"), *root.rglob("run.json")]
    folders = {file.parent.relative_to(root).as_posix(): file.parent for file in sorted(files)}
    complete = [name for name, folder in folders.items() if (folder / "run.json").exists()]
    if not complete:
        started = ", ".join(folders)
        why = f"the evaluation of {started} was interrupted" if started else "no evaluation"
        raise ConfigError(f"{workdir}/eval: {why}; run lts eval --workdir {workdir}")
    wanted: list[str] = []
    for name in complete:
        run = read_json(workdir / "eval" / name / "run.json", schema.RUN, schema.AGAIN)
        wanted += run["config"]["eval"]["splits"]
    names = list(dict.fromkeys([*wanted, *folders]))
    return [n for n in names if n in complete], [n for n in names if n not in complete]
