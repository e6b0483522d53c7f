"""The TensorFlow Datasets builder. One record is one image of a split, its JPEG stored once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import shard_utils
from tqdm import tqdm

from tfds_refcoco import masks, raw
from tfds_refcoco.errors import DataError

_DESCRIPTION = """Referring expressions for objects of MS-COCO images (RefCOCO, RefCOCO+, RefCOCOg),
and a generated set of coloured shapes in the same form."""
_CITATION = """@inproceedings{yu2016modeling,
  title={Modeling Context in Referring Expressions},
  author={Yu, Licheng and Poirson, Patrick and Yang, Shan and Berg, Alexander C.
          and Berg, Tamara L.},
  booktitle={ECCV}, year={2016}}"""
_RAW_LAYOUT = """A raw folder with `images/train2014/*.jpg` and, for example,
`refcoco/instances.json` and `refcoco/refs(unc).p`."""


class TfdsRefcoco(tfds.core.GeneratorBasedBuilder):
    """RefCOCO in records of one image.

    Features of a record: `image` (JPEG), `image_id` int64, `file_name` text, `height` and `width`
    int32, `objects` (a sequence of `ref_id` and `ann_id` int64, `category_id` int32, `category`
    text, `bbox` float32 [4] as x, y, width, height in pixels, `area` float32 as COCO gives it,
    `mask` as COCO's compressed RLE counts) and `sentences` (a sequence of `sent_id` int64,
    `object` int32, the position in `objects`, `sent` and `raw` text).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (typed by the base class)
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in raw.SOURCES]  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = _RAW_LAYOUT

    progress = False  # set to show one bar a split

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://github.com/lichengunc/refer",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image_id": np.int64,
                    "file_name": tfds.features.Text(),
                    "height": np.int32,
                    "width": np.int32,
                    "objects": tfds.features.Sequence(
                        {
                            "ref_id": np.int64,
                            "ann_id": np.int64,
                            "category_id": np.int32,
                            "category": tfds.features.Text(),
                            "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                            "area": np.float32,
                            "mask": tfds.features.Text(),
                        }
                    ),
                    "sentences": tfds.features.Sequence(
                        {
                            "sent_id": np.int64,
                            "object": np.int32,
                            "sent": tfds.features.Text(),
                            "raw": tfds.features.Text(),
                        }
                    ),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        splits = raw.read_raw(Path(dl_manager.manual_dir), self.builder_config.name)
        return {split: self._generate_examples(images) for split, images in splits.items()}

    def _generate_examples(
        self, images: tuple[raw.RawImage, ...]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, image in enumerate(images):
            yield number, _record(image)

    def _generate_splits(
        self, dl_manager: tfds.download.DownloadManager, download_config: Any
    ) -> list[tfds.core.SplitInfo]:
        # The inherited method keeps a split in memory and, above 1 GB, spills it to disk through
        # TensorFlow. The number of records and their sizes are known here, so that the shards can
        # be written one after the other, in order and in constant memory.
        splits = raw.read_raw(Path(dl_manager.manual_dir), self.builder_config.name)
        return [
            self._write_split(split, images, download_config.get_shard_config())
            for split, images in splits.items()
        ]

    def _log_download_bytes(self) -> None:
        """Says nothing: there is no download, and the path printed would be a temporary one."""

    def _log_download_done(self) -> None:
        """Says nothing, as above."""

    def _write_split(
        self, split: str, images: tuple[raw.RawImage, ...], shards: shard_utils.ShardConfig
    ) -> tfds.core.SplitInfo:
        total = sum(image.path.stat().st_size for image in images)
        count = min(len(images), shards.get_number_shards(total, len(images)))
        bounds = [len(images) * i // count for i in range(count + 1)]
        template = self._get_filename_template(split_name=split)
        writer = self._example_writer()
        examples = self._generate_examples(images)
        written = 0
        label = f"{self.builder_config.name} {split}"
        with tqdm(total=len(images), desc=label, unit="image", disable=not self.progress) as bar:

            def serialized(number: int) -> Iterator[tuple[int, bytes]]:
                nonlocal written
                for _ in range(number):
                    key, example = next(examples)
                    data = self.info.features.serialize_example(example)
                    written += len(data)
                    bar.update()
                    yield key, data

            for i in range(count):
                path = template.sharded_filepath(shard_index=i, num_shards=count)
                writer.write(path, serialized(bounds[i + 1] - bounds[i]))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[bounds[i + 1] - bounds[i] for i in range(count)],
            num_bytes=written,
            filename_template=template,
        )


def _record(image: raw.RawImage) -> dict[str, Any]:
    """Returns the features of one record."""
    objects = []
    for item in image.objects:
        try:
            mask = masks.from_segmentation(item.segmentation, image.height, image.width)
        except DataError as error:
            raise DataError(f"instances.json: annotation id {item.ann_id}: {error}") from error
        objects.append(
            {
                "ref_id": item.ref_id,
                "ann_id": item.ann_id,
                "category_id": item.category_id,
                "category": item.category,
                "bbox": np.array(item.bbox, np.float32),
                "area": item.area,
                "mask": mask,
            }
        )
    return {
        "image": raw.read_jpeg(image),
        "image_id": image.image_id,
        "file_name": image.file_name,
        "height": image.height,
        "width": image.width,
        "objects": objects,
        "sentences": [
            {
                "sent_id": sentence.sent_id,
                "object": sentence.object,
                "sent": sentence.sent,
                "raw": sentence.raw,
            }
            for sentence in image.sentences
        ],
    }
