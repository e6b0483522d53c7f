"""Reading: the sentence index, joined splits, threads, pickling and messages."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds

import tfds_refcoco
from tfds_refcoco.errors import DataError
from tfds_refcoco.masks import decode
from tfds_refcoco.records.reader import sentence_mask


def test_index_agrees_with_the_records(built):
    for name in ("train", "val", "val+train", "train+val"):
        split = built.split(name)
        index = split.index
        assert len(index) == split.counts.sentences == len(index.text)
        assert len(split) == split.counts.images
        assert index.record.tolist() == sorted(index.record)
        for i in range(len(index)):
            record = split.record(int(index.record[i]))
            sentences = record["sentences"]
            k = int(index.sentence[i])
            assert sentences["sent"][k] == index.text[i]
            assert sentences["sent_id"][k] == index.sent_id[i]
            assert sentences["ref_id"][k] == index.ref_id[i]
            assert index.targets[i] == 1 == (record["targets"]["sentence"] == k).sum()
            mask = decode(sentence_mask(record, k), record["height"], record["width"])
            assert mask.sum() == index.area[i] == 80
            assert (index.same_category[i], index.category[i]) == (2, "person")
            assert record["image_id"] == index.image_id[i]
            assert (record["height"], record["width"]) == (index.height[i], index.width[i])


def test_records_equal_those_of_tfds(built):
    split = built.split("train")
    source = tfds.builder_from_directory(built.path).as_data_source(
        "train", decoders={"image": tfds.decode.SkipDecoding()}
    )
    for number, expected in enumerate(source):
        record = split.record(number)
        assert record.keys() == expected.keys()
        assert record["objects"].keys() == expected["objects"].keys()
        assert record["sentences"].keys() == expected["sentences"].keys()
        assert record["image"] == expected["image"]
        assert record["file_name"].encode() == expected["file_name"]
        for name in ("image_id", "height", "width"):
            assert record[name] == expected[name]
        for group in ("objects", "sentences", "targets"):
            for name, value in expected[group].items():
                if isinstance(record[group][name], list):
                    texts = [t if isinstance(t, bytes) else t.encode() for t in record[group][name]]
                    assert texts == list(value)
                else:
                    np.testing.assert_array_equal(record[group][name], np.array(value))


def test_joined_splits_are_concatenated(built):
    split = built.split("val+train")
    assert [split.record(i)["image_id"] for i in range(3)] == [2, 0, 1]
    assert split.index.record.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (split.counts.images, split.counts.refs, split.counts.sentences) == (3, 6, 9)
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            split.record(outside)


def test_types(built):
    split = built.split("train")
    record = split.record(0)
    assert isinstance(record["image"], bytes) and record["image"].startswith(b"\xff\xd8")
    objects, sentences = record["objects"], record["sentences"]
    types = {"ann_id": np.int64, "category_id": np.int32, "area": np.float32}
    for name, dtype in types.items():
        assert objects[name].dtype == dtype and objects[name].shape == (2,)
    assert objects["bbox"].dtype == np.float32 and objects["bbox"].shape == (2, 4)
    assert objects["category"] == ["person", "person"]
    assert all(isinstance(mask, bytes) for mask in objects["mask"])
    assert sentences["sent_id"].dtype == sentences["ref_id"].dtype == np.int64
    assert record["targets"]["object"].dtype == np.int32
    assert sentences["raw"][0] == "Thing 0!"
    assert split.index.record.dtype == np.int64 and split.index.height.dtype == np.int32


def test_pickles_small_and_reads_in_threads(built):
    split = built.split("train+val")
    assert len(pickle.dumps(split)) < 1000
    copy = pickle.loads(pickle.dumps(split))
    numbers = [i % 3 for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda i: copy.record(i)["image_id"], numbers))
    assert ids == numbers


@pytest.mark.slow  # importing Grain takes three seconds
def test_grain_reads_in_threads(built):
    import grain

    split = built.split("train+val")
    pipeline = grain.MapDataset.range(60).map(lambda i: split.record(i % 3)["image_id"])
    read = grain.ReadOptions(num_threads=8, prefetch_buffer_size=8)
    assert list(pipeline.to_iter_dataset(read)) == [i % 3 for i in range(60)]


def test_unusual_text_survives(raw_set, write_raw, tmp_path):
    texts = ["?", "na\u00efve \u4eba", 'quo"te\\ \n']
    for sentence, text in zip(raw_set.refs[0]["sentences"] * 3, texts, strict=True):
        sentence["sent"] = text
    raw_set.refs[1]["sentences"][0]["sent"] = texts[0]
    raw_set.refs[1]["sentences"][1]["sent"] = texts[1]
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    split = tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc").split("train")
    expected = [texts[2], texts[0], texts[1]]
    assert split.record(0)["sentences"]["sent"] == expected
    assert split.index.text[:3] == expected


def test_unknown_splits(built):
    with pytest.raises(DataError, match="no split 'testC'; available are train, val"):
        built.split("val+testC")
    with pytest.raises(DataError, match="no split ''"):
        built.split("val+")
    with pytest.raises(DataError, match="twice"):
        built.split("val+val")


def test_a_dataset_that_is_not_built(tmp_path):
    with pytest.raises(DataError) as error:
        tfds_refcoco.open_dataset(tmp_path, "refcocog_umd")
    message = str(error.value)
    assert str(tmp_path / "tfds_refcoco/refcocog_umd/3.0.0") in message
    command = "python -m tfds_refcoco build --dataset refcocog_umd --raw RAW_DIR --out "
    assert command + str(tmp_path) in message
    with pytest.raises(DataError, match=r"--dataset shapes --out"):
        tfds_refcoco.open_dataset(tmp_path, "shapes")


def test_the_inner_folder_is_accepted(built):
    inner = built.path.parents[1]
    assert inner.name == "tfds_refcoco"
    assert tfds_refcoco.open_dataset(inner, "refcoco_unc").splits == ("train", "val")
    with pytest.raises(DataError) as error:
        tfds_refcoco.open_dataset(inner, "shapes")
    assert str(error.value).endswith(f"--out {inner.parent}")
