"""Nouns for the objects of a category, and the categories that a noun may mean.

A noun is used for an object only if it is certainly correct (`Vocabulary.names`). All objects that
it may mean (`Vocabulary.denotes`) are rivals: "bike" may mean a bicycle or a motorcycle, and "car"
a pickup, which COCO calls a truck.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import read_json
from tfds_refcoco.raw.files import RawFile

# COCO's 80 categories; the first noun is the most common one.
COCO_NAMES = """
person: person | bicycle: bike, bicycle | car: car, vehicle
motorcycle: motorcycle, motorbike, bike | airplane: plane, airplane | bus: bus, vehicle
train: train | truck: truck, vehicle | boat: boat | traffic light: traffic light, light
fire hydrant: fire hydrant, hydrant | stop sign: stop sign | parking meter: parking meter, meter
bench: bench | bird: bird, animal | cat: cat, kitty, animal | dog: dog, animal
horse: horse, animal | sheep: sheep, animal | cow: cow, animal | elephant: elephant, animal
bear: bear, animal | zebra: zebra, animal | giraffe: giraffe, animal | backpack: backpack, bag
umbrella: umbrella | handbag: bag, handbag, purse | tie: tie, necktie | suitcase: suitcase, bag
frisbee: frisbee, disc | skis: skis, pair of skis | snowboard: snowboard, board
sports ball: ball | kite: kite | baseball bat: bat, baseball bat | baseball glove: glove, mitt
skateboard: skateboard, board | surfboard: surfboard, board | tennis racket: racket, tennis racket
bottle: bottle | wine glass: wine glass, glass | cup: cup | fork: fork, utensil
knife: knife, utensil | spoon: spoon, utensil | bowl: bowl | banana: banana, fruit
apple: apple, fruit | sandwich: sandwich, food | orange: orange, fruit
broccoli: broccoli, vegetable | carrot: carrot, vegetable | hot dog: hot dog, food
pizza: pizza, food | donut: donut, doughnut | cake: cake, food | chair: chair, seat
couch: couch, sofa | potted plant: plant, potted plant | bed: bed | dining table: table
toilet: toilet | tv: tv, screen, television | laptop: laptop, computer
mouse: mouse, computer mouse | remote: remote, controller | keyboard: keyboard
cell phone: phone, cell phone | microwave: microwave | oven: oven | toaster: toaster | sink: sink
refrigerator: fridge, refrigerator | book: book | clock: clock | vase: vase
scissors: scissors, pair of scissors | teddy bear: teddy bear, stuffed animal
hair drier: hair dryer, blow dryer | toothbrush: toothbrush
"""
# Further categories that a noun may mean, although it is not used for them.
ALSO = {
    "person": (
        *(
            "rider",
            "pedestrian",
            "cyclist",
            "man",
            "woman",
            "child",
            "boy",
            "girl",
            "baby",
            "player",
        ),
    ),
    "car": ("truck", "bus"),
    "truck": ("car", "bus"),
    "bus": ("truck", "train"),
    "vehicle": ("motorcycle", "train"),
    "bear": ("teddy bear",),
    "animal": ("teddy bear",),
    "light": ("stop sign",),
    "glass": ("cup", "bottle", "vase"),
    "wine glass": ("cup",),
    "cup": ("wine glass", "bowl"),
    "bottle": ("vase",),
    "vase": ("bottle", "cup"),
    "bowl": ("cup",),
    "screen": ("laptop", "cell phone", "microwave"),
    "tv": ("laptop",),
    "television": ("laptop",),
    "computer": ("tv", "keyboard"),
    "phone": ("remote",),
    "cell phone": ("remote",),
    "remote": ("cell phone",),
    "controller": ("cell phone",),
    "seat": ("couch", "bench", "toilet"),
    "chair": ("couch", "bench"),
    "couch": ("chair", "bed"),
    "sofa": ("chair", "bed"),
    "plant": ("vase",),
    "purse": ("backpack", "suitcase"),
    "handbag": ("backpack", "suitcase"),
    "backpack": ("handbag",),
    "suitcase": ("handbag",),
    "food": (
        *("banana", "apple", "orange", "broccoli", "carrot", "donut", "bowl"),
        *("sandwich", "hot dog", "pizza", "cake"),
    ),
    "fruit": ("broccoli", "carrot"),
    "vegetable": ("banana", "apple", "orange"),
    "cake": ("donut", "pizza", "sandwich"),
    "sandwich": ("hot dog", "pizza", "cake"),
    "hot dog": ("sandwich",),
    "oven": ("microwave", "toaster"),
    "board": ("skis",),
    "mouse": ("remote",),
    "disc": ("sports ball",),
}
PLURALS = ("scissors", "skis")  # nouns in plural form
UNCOUNTED = (*PLURALS, "food", "broccoli")  # not used with ordinals and sizes
IRREGULAR = {"sheep": "sheep", "knife": "knives", "person": "people", "broccoli": "broccoli"}
USUAL = 0.75  # probability of the most common noun


@dataclass(frozen=True)
class Vocabulary:
    """The nouns of a dataset's categories.

    Attributes:
      names: by category, the nouns that are correct for its objects, the most common one first.
      denotes: by noun, the categories that it may mean.
    """

    names: Mapping[str, tuple[str, ...]]
    denotes: Mapping[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        # A police car is a car. For COCO's categories only ALSO is used: a hot dog is not a dog.
        heads: defaultdict[str, set[str]] = defaultdict(set)
        for category, nouns in self.names.items():
            for words in map(str.split, nouns):
                for first in range(len(words)):
                    heads[" ".join(words[first:])].add(category)
        known = coco_names().keys()
        listed = {category for category in self.names if _plain(category) in known}
        denotes: defaultdict[str, set[str]] = defaultdict(set)
        for category, nouns in self.names.items():
            for noun in nouns:
                kinds = heads[noun] | heads.get(plural(noun), set())
                kinds -= listed if category in listed else set()
                denotes[noun] |= {category, *ALSO.get(noun, ()), *kinds}
        frozen = {noun: frozenset(of_noun) for noun, of_noun in denotes.items()}
        object.__setattr__(self, "denotes", frozen)


def coco_names() -> dict[str, tuple[str, ...]]:
    """Returns the nouns of COCO's categories."""
    nouns_of = {}
    for entry in COCO_NAMES.replace("\n", "|").split("|"):
        if entry.strip():
            category, nouns = entry.split(":")
            nouns_of[category.strip()] = tuple(noun.strip() for noun in nouns.split(","))
    return nouns_of


def make_vocabulary(categories: Iterable[str], words: Path | None = None) -> Vocabulary:
    """Returns the nouns of `categories`: those in `words`, else COCO's, else the category name.

    Args:
      categories: category names, such as "dining table" or "Traffic_Cone".
      words: a JSON file with a list of nouns by category, the most common one first.

    Raises:
      DataError: `words` is invalid or names an unknown category, or a category has no name.
    """
    known = coco_names()
    categories = list(categories)
    if not all(_plain(category) for category in categories):
        raise DataError("categories: a name is empty; add it, because expressions use it.")
    # "Traffic_Cone" becomes "traffic cone".
    names = {c: known.get(_plain(c), (_plain(c),)) for c in categories}
    if words is not None:
        file = RawFile(words)
        content = read_json(file, "fix it")
        if not isinstance(content, dict):
            raise DataError(f'{file}: expected {{"category": ["noun", ...]}}.')
        for category in content:
            if category not in names:
                have = ", ".join(sorted(names))
                raise DataError(f"{file}: unknown category {category!r}; expected one of {have}.")
            nouns = fields.field(content, category, list, str(file))
            if not nouns or not all(isinstance(noun, str) and noun.strip() for noun in nouns):
                raise DataError(f"{file}.{category}: expected a list of nouns.")
            names[category] = tuple(" ".join(noun.split()) for noun in nouns)
    return Vocabulary(names)


def plural(noun: str) -> str:
    """Returns the plural of a noun, such as "wine glasses"."""
    *before, last = noun.split()
    if noun in PLURALS or last in PLURALS:
        return noun
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = f"{last[:-1]}ies"
    else:
        last += "s"
    return " ".join([*before, last])


def with_article(noun: str) -> str:
    """Returns the noun with "a" or "an", except for nouns in plural form."""
    if noun in PLURALS:
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plain(category: str) -> str:
    return " ".join(category.replace("_", " ").lower().split())
