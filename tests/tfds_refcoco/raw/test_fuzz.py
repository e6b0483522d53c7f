"""Mutated input: every reader returns a value or raises DataError, and executes no code."""

import copy
import json
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw import pickles
from tfds_refcoco.raw.problems import Problems
from tfds_refcoco.raw.read import read_raw
from tfds_refcoco.records.record import make_record
from tfds_refcoco.records.text import tokenize

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # from pycocotools

# Audit events for importing, compiling or executing code.
_CODE = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
_CODE += ("exec", "compile", "import", "open", "socket.connect", "ctypes.dlopen")
_events: list[str] | None = None


def _audit(event: str, args: object) -> None:
    if _events is not None and event in _CODE:
        _events.append(f"{event} {args}")


sys.addaudithook(_audit)


@contextmanager
def no_code_and_no_hang(seconds: float = 10) -> Iterator[None]:
    """Fails if the block imports or executes code, opens a file, or takes too long."""
    global _events

    def hang(*_: object) -> None:
        raise TimeoutError("the reader hangs")

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _events = seen = []
    try:
        yield
    finally:
        _events = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not seen, seen


class _Runs:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def _splices(mark: str) -> list[bytes]:
    """Parts of pickles that would execute code."""
    command = f"touch {mark}".encode()
    return [
        b"cos\nsystem\n(V" + command + b"\ntR",
        b"(V" + command + b"\nios\nsystem\n",
        b"\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(command)]) + command + b"\x85R",
        b"cbuiltins\neval\n(V__import__('os')\ntR",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x01",
        b"Pid\n",
        b"\x94" * 50,
        b"(" * 300,
        b"]" * 300 + b"a" * 200,
        b"\x85" * 300,
    ]


@pytest.mark.slow
def test_ten_thousand_mutated_pickles(raw_set, tmp_path):
    mark = tmp_path / "mark"
    refs = raw_set.refs[:2]
    seeds = [pickle.dumps(refs, protocol) for protocol in range(6)]
    seeds += [pickle.dumps([*refs, _Runs(str(mark))], protocol) for protocol in range(6)]
    splices = _splices(str(mark))
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0, "damaged": 0}
    # Late imports would be reported as executed code.
    pickles.loads(seeds[0], "warm")
    for number in range(10_000):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(data) + 1))
            match rng.integers(5):
                case 0:
                    data[at : at + 1] = bytes([rng.integers(256)])
                case 1:
                    data[at:at] = rng.bytes(int(rng.integers(1, 9)))
                case 2:
                    del data[at : at + int(rng.integers(1, 40))]
                case 3:
                    data[at:at] = splices[rng.integers(len(splices))]
                case 4:
                    other = seeds[rng.integers(len(seeds))]
                    data[at:] = other[int(rng.integers(len(other))) :]
        with no_code_and_no_hang():
            try:
                pickles.loads(bytes(data), "refs(unc).p")
                outcome = "read"
            except DataError as error:
                assert str(error).startswith("refs(unc).p: ")
                outcome = "refused" if "refused" in str(error) else "damaged"
        outcomes[outcome] += 1
    assert not mark.exists()
    assert min(outcomes.values()) > 100, outcomes  # the mutations reach all of them


def test_the_audit_hook_detects_executed_code(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(AssertionError, match=r"os\.system"), no_code_and_no_hang():
        pickle.loads(pickle.dumps(_Runs(str(mark))))
    assert mark.exists()
    with pytest.raises(TimeoutError), no_code_and_no_hang(0.05):
        while True:
            pass


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def _places(value, path=()):
    """Yields the path of every item in nested lists and dictionaries."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from _places(item, (*path, key))


def _mutate(content, data):
    """Replaces or removes random items of `content`."""
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(_places(content))
        if not places:
            return
        *path, last = data.draw(st.sampled_from(places))
        holder = content
        for key in path:
            holder = holder[key]
        if data.draw(st.integers(0, 3)) == 0:
            del holder[last]
        else:
            holder[last] = data.draw(_JSON)


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutated_annotations(raw_set, write_raw, tmp_path, skip, data):
    root = tmp_path / "raw"
    if not root.exists():
        write_raw()
    refs = copy.deepcopy(raw_set.refs)
    instances = {
        "images": copy.deepcopy(raw_set.images),
        "annotations": copy.deepcopy(raw_set.annotations),
        "categories": [{"id": 1, "name": "person"}],
    }
    _mutate(data.draw(st.sampled_from([refs, instances])), data)
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    (root / "refcoco/instances.json").write_text(json.dumps(instances))
    problems = Problems(skip)
    try:
        splits = read_raw(root, "refcoco_unc", problems)
        records = []
        for image in (image for images in splits.values() for image in images):
            with problems.skipping():
                records.append(make_record(image, problems)[0])
    except DataError as error:
        assert str(root) in str(error)
        return
    for record in records:  # remaining items are complete
        assert record["sentences"] and record["image"]
        for target in record["targets"]:
            assert target["sentence"] < len(record["sentences"])
            mask = record["objects"][target["object"]]["mask"]
            masks.decode(mask, record["height"], record["width"])
    if not problems.messages:  # nothing was skipped
        kept = sum(len(record["sentences"]) for record in records)
        assert kept == sum(len(ref["sentences"]) for ref in refs)


_COORDINATE = st.floats(-30, 60, width=32) | st.integers(-20, 60).map(float)
_POLYGON = st.integers(3, 8).flatmap(
    lambda n: st.lists(_COORDINATE, min_size=2 * n, max_size=2 * n)
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(_POLYGON, min_size=1, max_size=4), st.integers(30, 45), st.integers(30, 45))
def test_polygons_equal_pycocotools(polygons, height, width):
    try:
        counts = masks.from_segmentation(polygons, height, width)
    except DataError as error:
        assert "far outside" in str(error)
        flat = np.array([value for polygon in polygons for value in polygon])
        assert flat.min() < -30 or flat.max() > 60
        return
    theirs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    assert counts == theirs["counts"]
    np.testing.assert_array_equal(masks.decode(counts, height, width), coco_mask.decode(theirs))
    assert masks.area(counts, height, width) == coco_mask.area(theirs)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 12))
def test_runs_equal_pycocotools(runs, height):
    runs.append(-sum(runs) % height)
    width = sum(runs) // height
    if not width:
        return
    counts = masks.from_segmentation({"size": [height, width], "counts": runs}, height, width)
    theirs = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    decoded = coco_mask.decode(theirs)
    np.testing.assert_array_equal(masks.decode(counts, height, width), decoded)
    assert counts == coco_mask.encode(decoded)["counts"]  # without empty runs


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text("0123456789:;<=>?@ABCo", max_size=20), st.data())
def test_any_string_of_counts(counts, data):
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    try:
        stored = masks.from_segmentation({"size": [height, width], "counts": counts}, height, width)
    except DataError:
        return
    # Accepted counts cover the image exactly; pycocotools is reliable for these.
    theirs = coco_mask.decode({"size": [height, width], "counts": stored})
    np.testing.assert_array_equal(masks.decode(stored, height, width), theirs)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**16 - 1), max_size=4), st.integers(1, 7), st.integers(1, 7))
def test_union_equals_the_maximum(seeds, height, width):
    parts = [
        (np.random.default_rng(seed).random((height, width)) < 0.4).astype(np.uint8)
        for seed in seeds
    ]
    union = masks.decode(
        masks.union([masks.encode(p) for p in parts], height, width), height, width
    )
    expected = np.maximum.reduce(parts) if parts else np.zeros((height, width), np.uint8)
    np.testing.assert_array_equal(union, expected)


@given(st.text())
def test_words_of_any_text(text):
    words = tokenize(text)
    assert tokenize(" ".join(words)) == words  # cleaning is idempotent
    assert all(word and not set(word) & set(" .,'!?\"()*#:;-/\n\t") for word in words)
