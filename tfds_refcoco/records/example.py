"""One record as it is stored: a serialized tf.train.Example."""

import numpy as np
from numpy.typing import NDArray
from tensorflow_datasets.proto import tf_example_pb2

from tfds_refcoco.records.types import Record

_MOST_SIDE = 1 << 15  # pixels; raw files have the same limit


def decode_example(data: bytes) -> Record:
    """Returns the record in a serialized tf.train.Example, with its JPEG undecoded.

    Raises:
      ValueError: `data` is not an example, the image size is invalid, or columns differ in length.
      IndexError: a field is empty.
    """
    feature = tf_example_pb2.Example.FromString(data).features.feature

    def int32(name: str) -> NDArray[np.int32]:
        return np.array(feature[name].int64_list.value, np.int32)

    def int64(name: str) -> NDArray[np.int64]:
        return np.array(feature[name].int64_list.value, np.int64)

    def float32(name: str) -> NDArray[np.float32]:
        return np.array(feature[name].float_list.value, np.float32)

    def texts(name: str) -> list[str]:
        return [text.decode() for text in feature[name].bytes_list.value]

    record: Record = {
        "image": feature["image"].bytes_list.value[0],
        "image_id": feature["image_id"].int64_list.value[0],
        "file_name": texts("file_name")[0],
        "height": feature["height"].int64_list.value[0],
        "width": feature["width"].int64_list.value[0],
        "objects": {
            "ann_id": int64("objects/ann_id"),
            "category_id": int32("objects/category_id"),
            "category": texts("objects/category"),
            "bbox": float32("objects/bbox").reshape(-1, 4),
            "area": float32("objects/area"),
            "iscrowd": int32("objects/iscrowd"),
            "same_category": int32("objects/same_category"),
            "mask": list(feature["objects/mask"].bytes_list.value),
        },
        "sentences": {
            "sent_id": int64("sentences/sent_id"),
            "ref_id": int64("sentences/ref_id"),
            "sent": texts("sentences/sent"),
            "raw": texts("sentences/raw"),
            "kind": texts("sentences/kind"),
        },
        "targets": {
            "sentence": int32("targets/sentence"),
            "object": int32("targets/object"),
        },
    }
    if not (0 < record["height"] < _MOST_SIDE and 0 < record["width"] < _MOST_SIDE):
        raise ValueError(f"the image size is {record['width']}x{record['height']} pixels")
    for group in (record["objects"], record["sentences"], record["targets"]):
        if len({len(column) for column in group.values()}) > 1:  # type: ignore[arg-type]
            raise ValueError("the columns differ in length")
    return record
