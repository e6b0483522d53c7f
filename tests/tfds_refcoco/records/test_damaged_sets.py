"""Damaged datasets, and datasets that are rebuilt while they are open, are detected."""

import json
import sys

import pytest
from tensorflow_datasets.proto import tf_example_pb2

import tfds_refcoco
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError
from tfds_refcoco.records.example import decode_example
from tfds_refcoco.records.reader import sentence_mask


def test_invalid_records(built):
    """Damaged records in readable shards, as in a dataset from another source."""
    split = built.split("train")
    whole = bytes(split._sources[0][0])

    def changed(name, values):
        example = tf_example_pb2.Example.FromString(whole)
        column = example.features.feature[name]
        column.int64_list.value[:] = values
        return example.SerializeToString()

    for name, values, message in (
        ("height", [0], "the image size is 40x0 pixels"),
        ("width", [1 << 40], "the image size is"),
        ("height", [], "out of range"),
        ("objects/ann_id", [1], "the columns differ in length"),
        ("targets/object", [0], "the columns differ in length"),
    ):
        with pytest.raises((ValueError, IndexError), match=message):
            decode_example(changed(name, values))
    record = decode_example(changed("targets/object", [0, 0, 7]))
    assert sentence_mask(record, 0) == record["objects"]["mask"][0]
    with pytest.raises(DataError, match="image id 0: a target is not an object"):
        sentence_mask(record, 2)


@pytest.mark.parametrize(
    "name",
    [
        "dataset_info.json",
        "features.json",
        "build.json",
        "index/train.json",
        "tfds_refcoco-val.array_record-",
    ],
)
def test_an_incomplete_dataset(built, name):
    (victim,) = built.path.glob(name + ("*" if name.endswith("-") else ""))
    victim.unlink()
    with pytest.raises(DataError, match="missing") as error:
        tfds_refcoco.open_dataset(built.path.parents[2], "refcoco_unc")
    assert victim.name in str(error.value) and "--overwrite" in str(error.value)


def test_features_that_name_other_classes_are_refused(built, tmp_path, monkeypatch, capsys):
    """TFDS imports the modules that features.json names; no command may allow that."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil_features.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    file, out = built.path / "features.json", str(tmp_path / "out")
    content = json.loads(file.read_text())
    content["featuresDict"]["features"]["width"]["pythonClassName"] = "evil_features.Feature"
    file.write_text(json.dumps(content))
    for command in (["stats", "--dataset", "refcoco_unc"], ["check"]):
        assert main([*command, "--out", out]) == 1
        message = "".join(capsys.readouterr())
        assert "featuresDict.features.width is 'evil_features.Feature', not" in message
    assert not (tmp_path / "ran").exists() and "evil_features" not in sys.modules
    content["featuresDict"]["features"].pop("width")
    older = (
        json.dumps(content),
        r"built by another version: featuresDict\.features\.width is missing",
    )
    damaged = [(text, "cannot be read") for text in ("", "[" * 10**5)]
    for text, message in (*damaged, ('{"featuresDict": {}}', "built by another version"), older):
        file.write_text(text)
        with pytest.raises(DataError, match=rf"features\.json: {message}"):
            tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc").split("val")


@pytest.mark.parametrize(
    "change",
    [
        lambda refs: [ref.update(image_id=1 - ref["image_id"]) for ref in refs[:4]],
        lambda refs: [s.update(sent_id=s["sent_id"] + 7) for r in refs for s in r["sentences"]],
        lambda refs: [s.update(sent="other") for r in refs for s in r["sentences"]],
        lambda refs: refs[:4].reverse(),
    ],
)
def test_a_dataset_rebuilt_while_it_is_open(built, raw_set, tmp_path, change):
    """Sentences are never paired with the records of another build."""
    split = built.split("train")
    assert len(split.index) == 6  # no shard is open yet
    raw_set.refs[:4] = [*raw_set.refs[2:4], *raw_set.refs[:2]]  # the other image first
    change(raw_set.refs)
    for ref in raw_set.refs:  # required by the changed image_id
        for annotation in raw_set.annotations:
            if annotation["id"] == ref["ann_id"]:
                annotation["image_id"] = ref["image_id"]
    raw = raw_set.write(tmp_path / "raw2")
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", raw, overwrite=True, progress=False)
    with pytest.raises(DataError, match=r"record 0 of train, .* rebuilt while it was read"):
        split.record(0)
    again = tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc").split("train")
    assert again.index.text[0] == again.record(0)["sentences"]["sent"][0]


def _set(name, row, value):
    def change(content):
        content[name][row] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("image_id", 0, 5),
        _set("sent_id", 1, 99),
        _set("sentence", 1, 0),
        _set("sentence", 1, 7),
        _set("sentence", 1, -1),
        _set("text", 1, "other"),
    ],
)
def test_an_index_of_other_records(built, change):
    file = built.path / "index/train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    split = built.split("train")
    assert len(split.index) == 6
    with pytest.raises(DataError, match="does not match the sentence index"):
        split.record(0)
    assert split.record(1)["image_id"] == 1


@pytest.mark.parametrize(
    "change",
    [
        _set("record", 5, 99),
        _set("record", 0, -1),
        _set("record", 0, 1),
        lambda c: c.update(record=[0] * 6),
        _set("height", 0, 2**40),
        _set("text", 0, 7),
        lambda c: c.update(area_ratio=[1]),
        lambda c: c.update(images="x"),
    ],
)
def test_an_invalid_index(built, change):
    file = built.path / "index/train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"sentence index .*--overwrite"):
        _ = built.split("train").index


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:64],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: bytes(len(data)),
        lambda data: data + b"x" * 100,
        lambda data: b"hello" * 30_000,
        lambda data: data[:100] + bytes(5000) + data[5100:],
        lambda data: data[:64] + bytes([data[64] ^ 1]) + data[65:],
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
        lambda data: data[:65600] + bytes(64) + data[65664:],
    ],
)
def test_a_damaged_shard_is_a_one_line_error(built, damage):
    (shard,) = built.path.glob("*-val.array_record-*")
    shard.write_bytes(damage(shard.read_bytes()))
    split = built.split("val")
    assert len(split.index) == 3
    with pytest.raises(DataError, match=r"record 0 of val cannot be read \(.*\); rebuild"):
        split.record(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info["splits"][0].update(name="../../train"),
        lambda info: info["splits"][0].update(shardLengths=["-1"]),
        lambda info: info["splits"][0].update(shardLengths=[str(10**12)]),
        lambda info: info["splits"][0].update(shardLengths=["x"]),
        lambda info: info.update(splits=[]),
    ],
)
def test_a_damaged_dataset_info(built, tmp_path, change):
    file = built.path / "dataset_info.json"
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"dataset_info\.json: missing or damaged"):
        tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc")


def test_a_byte_order_mark_is_accepted(built, tmp_path):
    """Windows editors may add one."""
    for name in ("dataset_info.json", "features.json", "build.json", "index/val.json"):
        file = built.path / name
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    again = tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc")
    assert again.split("val").index.text == built.split("val").index.text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"text": ["a"], "record": []}', "[" * 10**5])
def test_a_damaged_index(built, text):
    (built.path / "index/val.json").write_text(text)
    with pytest.raises(DataError, match=r"val\.json: the sentence index"):
        _ = built.split("val").index
