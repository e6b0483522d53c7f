"""Raw files that are read from zips, and malicious or damaged zips."""

import json
import stat
import tracemalloc
import zipfile

import pytest

import tfds_refcoco
from tests.tfds_refcoco.helpers.trees import contents
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw import files
from tfds_refcoco.raw.read import read_raw


def zip_up(root, target, folder="refcoco", top="refcoco/"):
    """Writes a raw folder as zips like the published ones: annotations deflated, images stored."""
    (target / "images").mkdir(parents=True)
    with zipfile.ZipFile(target / f"{folder}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (root / folder).iterdir():
            archive.write(path, top + path.name)
    with zipfile.ZipFile(target / "images/train2014.zip", "w") as archive:
        for path in (root / "images/train2014").iterdir():
            archive.write(path, f"train2014/{path.name}")
    return target


def test_real_files_give_the_same_bytes_through_folders_and_zips(mini_refcoco, tmp_path):
    zipped = zip_up(mini_refcoco, tmp_path / "raw")
    built = [
        tfds_refcoco.build("refcoco_unc", tmp_path / name, raw, progress=False)
        for name, raw in (("folders", mini_refcoco), ("zips", zipped))
    ]
    assert contents(built[0]) == contents(built[1])
    split = tfds_refcoco.open_dataset(tmp_path / "zips", "refcoco_unc").split("val+testA+testB")
    assert (split.counts.sentences, split.counts.images, split.counts.refs) == (96, 12, 33)


@pytest.mark.parametrize("top", ["refcoco+/", "./RefCOCO+/", "a/refcocoplus/", "a\\", ""])
@pytest.mark.parametrize("folder", ["refcoco+", "refcocoplus"])
def test_names_of_zips_and_their_folders(write_raw, tmp_path, folder, top):
    zipped = zip_up(write_raw(folder=folder), tmp_path / "zipped", folder, top)
    assert len(read_raw(zipped, "refcocoplus_unc")["train"]) == 2


@pytest.mark.slow
def test_zip64(write_raw, tmp_path):
    """Streaming tools do not know the sizes in advance and reserve eight bytes for them."""
    zipped = tmp_path / "zipped"
    (zipped / "images").mkdir(parents=True)
    root = write_raw()
    for folder, name in (("refcoco", "refcoco.zip"), ("images/train2014", "images/train2014.zip")):
        with zipfile.ZipFile(zipped / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in (root / folder).iterdir():
                with archive.open(path.name, "w", force_zip64=True) as entry:
                    entry.write(path.read_bytes())
            for i in range(70_000 if folder == "refcoco" else 0):  # more than 16 bits can represent
                archive.writestr(f"other/{i}", b"")
    built = [
        tfds_refcoco.build("refcoco_unc", tmp_path / name, raw, progress=False)
        for name, raw in (("folders", root), ("zips", zipped))
    ]
    assert contents(built[0]) == contents(built[1])


def test_zips_and_folders_may_be_mixed(write_raw, tmp_path):
    root = write_raw()
    zipped = zip_up(root, tmp_path / "zipped")
    (zipped / "images/train2014.zip").rename(
        root / "train2017.zip"
    )  # at the top level, names of either year
    for path in (root / "images/train2014").iterdir():
        path.unlink()
    assert len(read_raw(root, "refcoco_unc")["train"]) == 2
    (root / "train2017.zip").rename(root / "images/others.zip")
    with pytest.raises(DataError, match="3 images"):
        read_raw(root, "refcoco_unc")


def test_an_entry_in_the_dataset_folder_is_preferred(tmp_path):
    path = tmp_path / "refcoco+.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("__MACOSX/f", "f", "refcoco/f", "a/refcoco+/f", "b/a/refcoco+/f", "g/"):
            archive.writestr(name, name)
    assert files.open_zip(path, "refcoco+")["f"].read(99) == b"a/refcoco+/f"
    assert files.open_zip(path, "other")["f"].read(99) == b"f"
    assert list(files.open_zip(path, "other")) == ["f"]


@pytest.mark.parametrize("name", ["../refs(unc).p", "/etc/passwd", "a/../../b", "..\\b", "C:\\b"])
def test_names_that_point_outside(write_raw, tmp_path, name):
    zipped = zip_up(write_raw(), tmp_path / "zipped")
    with zipfile.ZipFile(zipped / "refcoco.zip", "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(DataError, match=r"refcoco\.zip: refused: the entry .* points outside"):
        read_raw(zipped, "refcoco_unc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "zipped"]


def test_links_in_a_zip(write_raw, tmp_path):
    zipped = zip_up(write_raw(), tmp_path / "zipped")
    link = zipfile.ZipInfo("refcoco/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(zipped / "refcoco.zip", "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        read_raw(zipped, "refcoco_unc")


def test_a_zip_bomb_is_refused_before_decompression(write_raw, tmp_path, monkeypatch):
    zipped = zip_up(write_raw(), tmp_path / "zipped")
    (zipped / "refcoco.zip").unlink()
    with zipfile.ZipFile(zipped / "refcoco.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("refs(unc).p", b"x")
        with archive.open("instances.json", "w") as entry:
            for _ in range(64):
                entry.write(b" " * (1 << 20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(DataError, match=r"instances\.json\): .* bytes decompress to 67,108,864"):
        read_raw(zipped, "refcoco_unc")
    monkeypatch.setattr("tfds_refcoco.raw.coco.MAX_ANNOTATIONS", 1 << 24)
    with pytest.raises(DataError, match="above the limit of 16,777,216 for such a file"):
        read_raw(zipped, "refcoco_unc")


def test_a_zip_with_wrong_sizes(tmp_path):
    path, size = tmp_path / "a.zip", 100 << 20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f", bytes(size))
    data = path.read_bytes()
    where = data.index(b"PK\x01\x02")  # the central directory, whose sizes are used
    lie = data[:where] + data[where:].replace(size.to_bytes(4, "little"), b"\x10\0\0\0", 1)
    path.write_bytes(lie)
    file = files.open_zip(path, "")["f"]
    tracemalloc.start()
    with pytest.raises(DataError, match="damaged zip entry"):
        file.read(1 << 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unsupported_compressions(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("f", b"x")
    with pytest.raises(DataError, match="unsupported compression; zip it again"):
        files.open_zip(path, "")["f"].read(100)


def test_damaged_zips(write_raw, tmp_path):
    zipped = zip_up(write_raw(), tmp_path / "zipped")
    path = zipped / "refcoco.zip"
    whole = path.read_bytes()
    for data in (b"", b"PK", whole[: len(whole) // 2], b"<html>404</html>"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"refcoco\.zip: not a complete zip"):
            read_raw(zipped, "refcoco_unc")
    middle = whole.index(b"instances.json") + 200
    path.write_bytes(
        whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 9]) + whole[middle + 9 :]
    )
    with pytest.raises(DataError, match="damaged zip entry"):
        read_raw(zipped, "refcoco_unc")


def test_encrypted_entries(write_raw, tmp_path):
    zipped = zip_up(write_raw(), tmp_path / "zipped")
    path = zipped / "refcoco.zip"
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 4)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"damaged zip entry \(File .* is encrypted"):
        read_raw(zipped, "refcoco_unc")


def test_a_changed_zip_is_read_again(tmp_path):
    path = tmp_path / "a.zip"
    for text in ("one", "three"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("f", text)
        assert files.open_zip(path, "")["f"].read(100) == text.encode()


def test_errors_name_zip_and_entry(raw_set, write_raw, tmp_path):
    root = write_raw()
    instances = root / "refcoco/instances.json"
    content = json.loads(instances.read_text())
    content["images"][1]["width"] = 0
    instances.write_text(json.dumps(content))
    zipped = zip_up(root, tmp_path / "zipped")
    with pytest.raises(DataError, match=r"refcoco\.zip \(refcoco/instances\.json\): images\[1\]"):
        read_raw(zipped, "refcoco_unc")
