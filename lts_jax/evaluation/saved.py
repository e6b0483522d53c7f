"""Reads what an evaluation has written, with the images and the truth beside it; no network."""

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import tfds_refcoco
from lts_jax.data import image_ops
from lts_jax.errors import ConfigError
from lts_jax.evaluation import results
from tfds_refcoco import masks
from tfds_refcoco.records.reader import Split, sentence_mask


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

    def prediction(self) -> np.ndarray:
        """Bool `[h, w]`."""
        return results.decode(self.entry["segmentation"])

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
        run = results.read_json(folder / "run.json")
        predictions = results.read_json(folder / "predictions.json")
        data = run["config"]["data"]
        dataset = tfds_refcoco.open_dataset(data_dir or Path(data["dir"]), data["dataset"])
        split = dataset.split(name)
        same = [p["sent_id"] for p in predictions] == split.index.sent_id.tolist()
        if not same:
            raise ConfigError(
                f"{folder}: evaluated on other data than {dataset.path}; evaluate again"
            )
        return cls(folder, name, run, predictions, split)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        found: dict[str, Any] = results.read_json(self.folder / "metrics.json")
        return found

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """What analysis.json holds."""
        found: dict[str, Any] = results.read_json(self.folder / "analysis.json")
        return found

    @cached_property
    def heatmaps(self) -> np.ndarray | None:
        """Uint8 `[N, rounds, G, G]`, or None."""
        file = self.folder / "heatmaps.npz"
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            if arrays["sent_id"].tolist() != [p["sent_id"] for p in self.predictions]:
                raise ConfigError(f"{file}: not of predictions.json beside it; evaluate again")
            found: np.ndarray = arrays["heatmap"]
        return found

    def sentence(self, row: int) -> Sentence:
        """Reads one sentence."""
        return Sentence(self, row)


def evaluated_splits(workdir: Path) -> list[str]:
    """Returns the splits of a workdir that have been evaluated, those of its config first.

    Raises:
      ConfigError: there is none.
    """
    folders = sorted(path.parent for path in (workdir / "eval").glob("*/run.json"))
    if not folders:
        raise ConfigError(f"{workdir}/eval: nothing evaluated; lts eval --workdir {workdir}")
    wanted = list(results.read_json(folders[0] / "run.json")["config"]["eval"]["splits"])
    names = [folder.name for folder in folders]
    return sorted(names, key=lambda name: wanted.index(name) if name in wanted else len(wanted))
