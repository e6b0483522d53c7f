"""The TensorFlow Datasets builder. A record is one image of a split; its JPEG is stored once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from tfds_refcoco.console import progress_stream
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw import read
from tfds_refcoco.raw.problems import Problems
from tfds_refcoco.raw.sources import SOURCES
from tfds_refcoco.raw.types import RawImage
from tfds_refcoco.records.layout import VERSION
from tfds_refcoco.records.record import features, make_record
from tfds_refcoco.writing import shards
from tfds_refcoco.writing.options import Options

_DESCRIPTION = """Referring expressions for objects of MS-COCO images (RefCOCO, RefCOCO+, RefCOCOg,
gRefCOCO) with masks, a generated dataset of coloured shapes, and custom data in the same format."""
_CITATION = """@inproceedings{yu2016modeling,
  title={Modeling Context in Referring Expressions},
  author={Yu, Licheng and Poirson, Patrick and Yang, Shan and Berg, Alexander C.
          and Berg, Tamara L.},
  booktitle={ECCV}, year={2016}}"""
_RAW_LAYOUT = """A raw folder with `images/train2014/*.jpg` or `images/train2014.zip` and, for
example, `refcoco/instances.json` and `refcoco/refs(unc).p` or `refcoco.zip`."""


# TFDS has no type hints. unused-ignore: only strict checking reports the base class.
class TfdsRefcoco(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc, unused-ignore]
    """RefCOCO with one record per image; docs/data.md describes the features."""

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {  # noqa: RUF012 (typed by the base class)
        "2.0.0": "Any number of targets per sentence: `targets`.",
        "3.0.0": "The type of each expression: `kind`.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in SOURCES]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = _RAW_LAYOUT

    options = Options()  # set before a build
    skipped: tuple[str, ...] = ()  # set by a build: messages about skipped items
    gray = 0  # set by a build: number of gray images
    notes: tuple[str, ...] = ()  # set by a build, such as items that the authors leave out

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://github.com/lichengunc/refer",
            features=features(),
            disable_shuffling=True,
        )

    # The base class requires this method and the next; `_generate_splits` does not call them.
    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, object]]]]:
        splits = read.read_raw(Path(dl_manager.manual_dir), self.builder_config.name)
        return {split: self._generate_examples(images) for split, images in splits.items()}

    def _generate_examples(
        self, images: tuple[RawImage, ...]
    ) -> Iterator[tuple[int, dict[str, object]]]:
        for number, image in enumerate(images):
            yield number, make_record(image, Problems())[0]

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> list[tfds.core.SplitInfo]:
        # The inherited method keeps a split in memory and, above 1 GB, spills it to disk through
        # TensorFlow; with Beam it shuffles. Here the number of records and their sizes are known,
        # so each shard is written independently, in order and in constant memory.
        problems = Problems(self.options.skip_bad)
        splits = read.read_raw(
            Path(dl_manager.manual_dir),
            self.builder_config.name,
            problems,
            self.options.splits,
            self.options.max_images,
        )
        folder = Path(self.data_dir) / "parts"
        folder.mkdir()
        config = download_config.get_shard_config()
        plans = {
            split: shards.plan_shards(split, images, folder, config, skip_bad=problems.skip)
            for split, images in splits.items()
        }
        _check_room(folder, sum(plan.size for of_split in plans.values() for plan in of_split))
        if download_config.beam_options is None:
            written = {split: self._write(split, of_split) for split, of_split in plans.items()}
        else:
            from tfds_refcoco.writing.beam import write_shards

            every = write_shards(
                [plan for of_split in plans.values() for plan in of_split],
                download_config.beam_options,
            )
            by_path = {shard.path: shard for shard in every}
            written = {split: [by_path[p.path] for p in plans[split]] for split in plans}
        every = [shard for of_split in written.values() for shard in of_split]
        self.skipped = (*problems.messages, *(text for shard in every for text in shard.problems))
        self.gray = sum(shard.gray for shard in every)
        self.notes = tuple(f"{number:,} {what}" for what, number in problems.notes.items())
        infos = [self._finish(split, of_split) for split, of_split in written.items()]
        shutil.rmtree(folder)
        return infos

    def _log_download_bytes(self) -> None:
        """Prints nothing: there is no download, and the path is temporary."""

    def _log_download_done(self) -> None:
        """Prints nothing, as above."""

    def _write(self, split: str, plans: list[shards.Plan]) -> list[shards.Written]:
        total = sum(len(plan.images) for plan in plans)
        label = f"{self.builder_config.name} {split}"
        disable = not self.options.progress
        with tqdm(
            total=total, desc=label, unit="image", disable=disable, file=progress_stream()
        ) as bar:
            return [shards.write_shard(plan, bar.update) for plan in plans]

    def _finish(self, split: str, written: list[shards.Written]) -> tfds.core.SplitInfo:
        """Renames non-empty shards to their final names."""
        filled = [shard for shard in written if shard.records]
        if not filled:
            raise DataError(
                f"{split}: every image of the split is invalid; first error: {self.skipped[0]}"
            )
        template = self._get_filename_template(split_name=split)
        for i, shard in enumerate(filled):
            final = template.sharded_filepath(shard_index=i, num_shards=len(filled))
            shard.path.replace(str(final))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.records for shard in filled],
            num_bytes=sum(shard.bytes for shard in filled),
            filename_template=template,
        )


def _check_room(folder: Path, needed: int) -> None:
    """Raises DataError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"out: no space left: the images need {needed / 1e6:,.1f} MB, but only "
            f"{free / 1e6:,.1f} MB are free; choose an --out on a larger disk."
        )
