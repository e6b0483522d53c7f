"""Golden files with one value replaced: the import succeeds or raises DataError."""

import copy
import random
from collections import Counter

import pytest

from tests.tfds_refcoco.helpers.annotations import cvat, label_studio
from tests.tfds_refcoco.importers.test_faults import coco, labelme
from tfds_refcoco.errors import DataError
from tfds_refcoco.importers import coco as coco_format
from tfds_refcoco.importers import cvat as cvat_format
from tfds_refcoco.importers import label_studio as label_studio_format
from tfds_refcoco.importers import labelme as labelme_format
from tfds_refcoco.importers.assemble import assemble

JUNK = (None, True, -1, 3, 1e300, float("nan"), "", "x", "\ud800", [], [[]], [None], {}, {"a": 1})


def places(node, path=()):
    """Yields the path of every value below a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(content, rng):
    """Returns the content with one value replaced, or removed from a dictionary."""
    content = copy.deepcopy(content)
    *path, last = rng.choice([p for p in places(content) if "rle" not in p[:-1]])
    node = content
    for key in path:
        node = node[key]
    if isinstance(node, dict) and rng.random() < 0.2:
        del node[last]
    else:
        node[last] = rng.choice(JUNK)
    return content


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["coco", "labelme", "label-studio"])
def test_one_value_is_replaced(workshop, kind, seed):
    rng = random.Random(f"{kind} {seed}")
    content, read = {
        "coco": (coco(), lambda p, n: coco_format.read_coco_export(p, None, None, None, n)),
        "labelme": (labelme(), lambda p, n: labelme_format.read_labelme(p, None, None, n)),
        "label-studio": (
            label_studio(),
            lambda p, n: label_studio_format.read_label_studio(p, None, None, n),
        ),
    }[kind]
    outcomes = Counter(attempt(workshop, changed(content, rng), "a.json", read) for _ in range(60))
    assert outcomes["refused"] and outcomes["imported"], outcomes


@pytest.mark.parametrize("seed", range(2))
def test_cvat(workshop, seed):
    """A character of the XML is replaced or removed."""
    rng = random.Random(seed)
    outcomes = Counter()
    for _ in range(60):
        text = cvat()
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", "9", "-", ",", ";", "é", " ", '"']) + text[at + 1 :]
        outcomes[
            attempt(workshop, text, "a.xml", lambda p, n: cvat_format.read_cvat(p, None, None, n))
        ] += 1
    assert outcomes["refused"] and outcomes["imported"], outcomes


def attempt(workshop, content, name, read):
    try:
        notes: Counter[str] = Counter()
        images = read(workshop.write(name, content), notes)
        assemble(images, workshop.out, notes, splits={}, val=0.1, seed=0, progress=False)
    except DataError as error:
        assert str(workshop.root) in str(error)
        return "refused"
    return "imported"
