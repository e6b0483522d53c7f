"""Augmentation of training examples: mirroring, crops, masked words and masked patches."""

import itertools

import cv2
import numpy as np
import pytest

from lts_jax.config.validation import check_config
from lts_jax.data import pipeline
from lts_jax.data.augmentation import PATCH, Augmentation, Draw
from lts_jax.data.examples import Preprocessing, read_mask
from lts_jax.data.image_ops import GRAY, decode_image
from lts_jax.data.sampler import HostShare
from lts_jax.data.vocabulary import UNKNOWN, Vocabulary
from lts_jax.data.word_pieces import WordPieces
from lts_jax.errors import ConfigError
from tests.tfds_refcoco.shapes.reading import read
from tfds_refcoco.expressions.views import View, view_pixels
from tfds_refcoco.records.text import tokenize
from tfds_refcoco.shapes.sample import sample

ALL = Augmentation(flip=0.5, crop=0.5, mask_words=0.3, mask_patches=0.25)


@pytest.fixture(scope="module")
def train(shapes_data):
    return shapes_data.split("train")


def make_preprocessing(split, augmentation):
    vocabulary = Vocabulary.build(split.index.text)
    return Preprocessing(vocabulary, 64, max_words=12, augmentation=augmentation)


def batches(split, augmentation, n, *, seed=0, per_image=3, threads=2, first=0, **of_host):
    order = pipeline.training_order(split, seed, "sentences", per_image)
    dataset = pipeline.train_batches(
        split,
        order,
        make_preprocessing(split, augmentation),
        batch_size=12,
        threads=threads,
        **of_host,
    )
    iterator = iter(dataset)
    if first:
        before = iter(dataset)
        for _ in range(first):
            next(before)
        iterator.set_state(before.get_state())
    return list(itertools.islice(iterator, n))


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for name, value in batch.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_examples_depend_only_on_seed_epoch_and_position(train):
    n = pipeline.training_order(train, 0, "sentences", 3).epoch_length // 12 + 3  # > 1 epoch
    expected = batches(train, ALL, n)
    assert_same(batches(train, ALL, n, threads=5), expected)
    assert_same(batches(train, ALL, n - 2, first=2, threads=1), expected[2:])
    parts = [batches(train, ALL, n, host=host, hosts=2) for host in (0, 1)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts, strict=True)]
    assert_same(joined, expected)
    other = batches(train, ALL, n, seed=1)
    assert any((a["image"] != b["image"]).any() for a, b in zip(expected, other, strict=True))


def test_epochs_are_augmented_differently():
    masks = [np.zeros((40, 60), np.uint8)]
    plans = {ALL.plan(Draw(0, epoch, 7), [["red", "star"]], masks).view for epoch in range(30)}
    assert len(plans) > 10


def test_without_augmentation_nothing_is_drawn(train, monkeypatch):
    plain = batches(train, Augmentation(), 3)
    monkeypatch.setattr(Draw, "uniform", None)
    assert_same(batches(train, Augmentation(), 3), plain)
    preprocessing = make_preprocessing(train, Augmentation())
    order = pipeline.training_order(train, 0, "sentences", 3)
    rows = [HostShare(order, 12)[number] for number in range(3)]
    assert_same([preprocessing.train_batch(train, of_batch, 3) for of_batch in rows], plain)


def test_augmentations_use_independent_random_numbers(train):
    masks = [np.eye(40, 60, dtype=np.uint8)]
    words = [["left", "star"]]
    alone = Augmentation(flip=0.5)
    together = Augmentation(flip=0.5, mask_words=0.5, mask_patches=0.5)
    for place in range(40):
        draw = Draw(3, 0, place)
        assert alone.plan(draw, words, masks) == together.plan(draw, words, masks)


def test_pixels_and_masks_and_words_change_together(train):
    augmentation = Augmentation(flip=0.6, crop=0.6)
    order = pipeline.training_order(train, 5, "sentences", 3)
    preprocessing = make_preprocessing(train, augmentation)
    kinds = set()
    for number, batch in enumerate(batches(train, augmentation, 6, seed=5)):
        rows = HostShare(order, 12)[number]
        for k in range(4):
            of_image = rows[3 * k : 3 * k + 3]
            record = train.record(int(train.index.record[of_image[0]]))
            h, w = record["height"], record["width"]
            masks = [read_mask(record, int(train.index.sentence[row]), h, w) for row in of_image]
            texts = [tokenize(train.index.text[row]) for row in of_image]
            plan = augmentation.plan(order.draw(12 * number + 3 * k), texts, masks)
            kinds.add((plan.view.mirrored, plan.view[:4] != (0, 0, w, h)))
            source = view_pixels(decode_image(record["image"]), plan.view)
            scale = 64 / max(source.shape[:2])
            size = tuple(max(1, round(n * scale)) for n in source.shape[1::-1])
            left, top = ((64 - n) // 2 for n in size)
            expected = np.full((64, 64, 3), GRAY, np.uint8)
            expected[top : top + size[1], left : left + size[0]] = cv2.resize(source, size)
            np.testing.assert_array_equal(batch["image"][k], expected)
            for i, (number_of, words) in enumerate(zip(plan.sentences, plan.words, strict=True)):
                tokens, length = preprocessing.vocabulary.encode(words, 12)
                np.testing.assert_array_equal(batch["tokens"][3 * k + i], tokens)
                assert batch["length"][3 * k + i] == length
                shown = view_pixels(masks[number_of], plan.view)
                assert shown.sum() == masks[number_of].sum() > 0
                share = shown.sum() * scale**2 / 16
                assert abs(batch["truth4"][3 * k + i].sum() - share) < 0.35 * share + 4
    assert kinds == {(a, b) for a in (False, True) for b in (False, True)}


def test_sentences_that_a_crop_makes_false_are_replaced():
    masks = [np.zeros((40, 60), np.uint8) for _ in range(4)]
    for i, mask in enumerate(masks):
        mask[10 + i, 12 * i : 12 * i + 6] = 1
    words = [tokenize(text) for text in ("left star", "red star", "biggest one", "blue ball")]
    always = Augmentation(crop=1.0)
    for place in range(50):
        view, kept, texts = always.plan(Draw(0, 0, place), words, masks)
        assert kept == [1, 3, 1, 3] and texts == [words[i] for i in kept]
        for i in (1, 3):
            assert view_pixels(masks[i], view).sum() == masks[i].sum()
        unsafe = [words[0], words[2]]
        full_view = View(0, 0, 60, 40, False)
        assert always.plan(Draw(0, 0, place), unsafe, masks[:2]) == (full_view, [0, 1], unsafe)


def test_an_image_is_mirrored_for_all_of_its_sentences_or_for_none():
    masks = [np.ones((40, 60), np.uint8)] * 2
    always = Augmentation(flip=1.0)
    view, _, texts = always.plan(Draw(0, 0, 0), [["left"], ["red"]], masks)
    assert view.mirrored and texts == [["right"], ["red"]]
    view, _, texts = always.plan(Draw(0, 0, 0), [["left"], ["number", "7"]], masks)
    assert not view.mirrored and texts == [["left"], ["number", "7"]]


def test_an_empty_mask_can_be_cropped():
    view, *_ = Augmentation(crop=1.0).plan(Draw(0, 0, 0), [["cat"]], [np.zeros((9, 7), np.uint8)])
    assert 0 <= view.left <= 7 - view.width and 0 <= view.top <= 9 - view.height


@pytest.mark.parametrize("kind", ["words", "pieces"])
def test_words_are_masked_at_the_given_rate_and_one_is_kept(kind):
    if kind == "words":
        vocabulary = Vocabulary(["a", "b", "c"])
        hidden_id = UNKNOWN
    else:
        vocabulary = WordPieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"])
        hidden_id = vocabulary.mask
        assert hidden_id == 4 and WordPieces(vocabulary.words[:4]).mask == vocabulary.unknown
    sentences = [["a"], ["a", "b", "c"] * 3, ["b", "c"]] * 200
    encoded = [vocabulary.encode(words, 11) for words in sentences]
    before = np.stack([tokens for tokens, _ in encoded])
    lengths = np.array([length for _, length in encoded], np.int32)
    tokens = before.copy()
    Augmentation(mask_words=0.25).hide_words(Draw(0, 0, 0), tokens, lengths, vocabulary)
    changed = tokens != before
    assert (tokens[changed] == hidden_id).all()
    long = changed[1::3]
    words = 9
    assert 0.2 < long.sum() / (200 * words) < 0.3
    inside = np.zeros_like(changed)
    for row, length in enumerate(lengths):
        inside[row, vocabulary.places(int(length))] = True
    assert not (changed & ~inside).any()
    assert (inside & ~changed).any(axis=1).all()
    nearly_all = before.copy()
    Augmentation(mask_words=0.999).hide_words(Draw(0, 0, 0), nearly_all, lengths, vocabulary)
    assert (((nearly_all == before) & inside).sum(axis=1) >= 1).all()


def test_patches_are_masked_at_the_given_rate():
    image = np.random.default_rng(0).integers(129, 256, (128, 128, 3)).astype(np.uint8)
    seen = []
    for place in range(20):
        hidden = image.copy()
        Augmentation(mask_patches=0.25).hide_patches(Draw(0, 0, place), hidden)
        gray = (hidden == GRAY).all(-1).reshape(8, PATCH, 8, PATCH)
        each = gray.all(axis=(1, 3))
        assert each.sum() == 16 and gray.sum() == 16 * PATCH**2
        rest = ~np.repeat(np.repeat(each, PATCH, 0), PATCH, 1)
        np.testing.assert_array_equal(hidden[rest], image[rest])
        seen.append(each)
    assert np.mean(seen, axis=0).min() > 0  # every patch is masked sometimes


@pytest.mark.parametrize("name", ["flip", "crop", "mask_patches"])
def test_cached_features_require_unaugmented_images(tiny_config_factory, name):
    config = tiny_config_factory()
    config.train[name] = config.train.mask_words = 0.5
    check_config(config)
    config.train.freeze, config.train.cache_features = "backbone", "float32"
    with pytest.raises(
        ConfigError, match=rf"cache_features=float32 with train\.{name}=0\.5: features"
    ):
        check_config(config)
    config.train[name] = 0.0
    check_config(config)


def seen_things(scene, view):
    """Returns a scene's objects as visible in the view, and their masks in the view."""
    things = []
    for number, thing in enumerate(scene.things):
        mask = np.zeros((scene.height, scene.width), np.uint8)
        cv2.fillPoly(mask, [np.round(thing.polygon - 0.5).astype(np.int32)], 1)
        x, y, w, h = thing.x - view.left, thing.y - view.top, thing.width, thing.height
        x = view.width - x if view.mirrored else x
        shown = view_pixels(mask, view)
        if not shown.any():
            continue
        if shown.sum() < mask.sum():  # cut: use the box of the visible part
            (x0, x1), (y0, y1) = (
                (np.flatnonzero(shown.any(axis=axis))[[0, -1]] + (0, 1)).tolist() for axis in (0, 1)
            )
            x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        looks = {"shape": thing.shape, "colour": thing.colour, "texture": thing.texture}
        place = {"x": x, "y": y, "w": w, "h": h, "u": x / view.width, "v": y / view.height}
        things.append({"id": number, "area": thing.area, "mask": mask, **looks, **place})
    return things


def check_scenes(count, per_image, augmentation):
    """Augments generated scenes; returns counts of changed sentences and of crops by kind."""
    mirrored, cut = {}, {}
    for number in range(count):
        scene, referents = sample(np.random.default_rng([11, number]), "train")
        full_masks = {
            t["id"]: t["mask"] for t in seen_things(scene, View(0, 0, 10**6, 10**6, False))
        }
        sentences = [(r.index, *s) for r in referents for s in r.sentences][:per_image]
        words = [tokenize(sent) for _, sent, *_ in sentences]
        view, kept, texts = augmentation.plan(
            Draw(0, 0, number), words, [full_masks[index] for index, *_ in sentences]
        )
        things = seen_things(scene, view)
        for i, text in zip(kept, texts, strict=True):
            index, before, _, kind = sentences[i]
            assert view_pixels(full_masks[index], view).sum() == full_masks[index].sum()
            _, meant = read(" ".join(text), things)
            assert [t["id"] for t in meant] == [index], (number, before, text, view)
            if view.mirrored and text != words[i]:
                mirrored[kind] = mirrored.get(kind, 0) + 1
            if view[:4] != (0, 0, scene.width, scene.height):
                cut[kind] = cut.get(kind, 0) + 1
    return mirrored, cut


@pytest.mark.parametrize(
    ("count", "per_image"),
    [(60, 4), *(pytest.param(2000, n, marks=pytest.mark.slow) for n in (1, 4))],
)
def test_augmented_sentences_refer_to_their_object_only(count, per_image):
    mirrored, cut = check_scenes(count, per_image, Augmentation(flip=0.7, crop=0.5))
    assert set(cut) == {"attribute"} and cut["attribute"] > count // 10, cut
    assert {"side: left", "side: right", "ordinal: second"} <= set(mirrored), mirrored
    if count > 1000:
        assert {"ordinal: third", "corner: top left", "relation: left of"} <= set(mirrored), (
            mirrored
        )
        assert sum(mirrored.values()) > count // 8, mirrored
