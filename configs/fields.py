"""The description of a config field, and the ConfigDict that a table of fields makes."""

import dataclasses
import enum
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FieldReference


class Scope(enum.Enum):
    """Where the value of a field has to stay the same."""

    NETWORK = enum.auto()
    """It shapes the network or its inputs: evaluation and prediction need the trained value."""
    RUN = enum.auto()
    """It makes the run: a resumed run must not change it."""
    RESUME = enum.auto()
    """A resumed run may change it."""
    MACHINE = enum.auto()
    """A resumed run may change it, and the processes of a run may differ in it."""


class Check(NamedTuple):
    """A condition on a value, in the form that JSON gives back: tuples are lists.

    Attributes:
      accepts: whether a value meets it.
      message: what the error says after the field's name and value.
    """

    accepts: Callable[[Any], bool]
    message: str


@dataclasses.dataclass(frozen=True)
class Field:
    """Everything there is to know about a config field.

    Attributes:
      default: the paper's value.
      help: its meaning and unit.
      checks: conditions on its value, in order; they are not about `words`.
      scope: where it has to stay the same.
      words: texts that it takes in place of a value of the default's type.
    """

    default: Any
    help: str
    checks: tuple[Check, ...] = ()
    scope: Scope = Scope.RUN
    words: tuple[str, ...] = ()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


POSITIVE = Check(lambda x: 0 < x < math.inf, "must be positive")
NOT_NEGATIVE = Check(lambda x: 0 <= x < math.inf, "must not be negative")
PROBABILITY = Check(lambda x: 0 <= x < 1, "must be a probability")
SHARE = Check(lambda x: 0 <= x <= 1, "must lie between 0 and 1")
SEED = Check(lambda x: 0 <= x < 2**32, "must lie between 0 and 2**32 - 1")
BLOCKS = Check(
    lambda x: all(isinstance(n, int) and 0 <= n <= 1000 for n in x),
    "must be numbers of blocks, each at most 1,000",
)
RATES = Check(
    lambda x: all(_is_count(n) and n <= 1000 for n in x) and len(set(x)) == len(x) <= 20,
    "must be at most 20 positive whole numbers up to 1,000, each once",
)
WEIGHTS = Check(
    lambda x: all(type(n) in (int, float) and 0 < n <= 1e6 for n in x),
    "must be positive numbers up to 1,000,000",
)
INCREASING = Check(
    lambda x: (
        all(isinstance(n, int | float) and 0 < n < math.inf for n in x) and sorted(set(x)) == x
    ),
    "must be positive numbers that increase",
)
_ONE = r"\w[\w.-]*(/\w[\w.-]*)?"
_SPLIT = re.compile(rf"{_ONE}( *\+ *{_ONE})*")  # it names a folder of results
SPLITS = Check(
    lambda x: (
        all(isinstance(name, str) and _SPLIT.fullmatch(name) for name in x)
        and len(set(x)) == len(x) > 0
    ),
    "must be one or more splits, each once",
)


def up_to(most: int) -> tuple[Check, Check]:
    """The value is positive, and at most what any machine could do with: more is a mistake."""
    return (POSITIVE, Check(lambda x: x <= most, f"must be at most {most:,}"))


def zero_to(most: int) -> tuple[Check, Check]:
    """As `up_to`, or 0."""
    return (NOT_NEGATIVE, Check(lambda x: x <= most, f"must be at most {most:,}"))


def one_of(*choices: str) -> tuple[Check]:
    """The value is one of a few words."""
    return (Check(lambda x: x in choices, f"is none of {', '.join(choices)}"),)


def multiple_of(n: int) -> Check:
    """The value is a multiple of n."""
    return Check(lambda x: x % n == 0, f"must be a multiple of {n}")


def make_config(fields: Mapping[str, Field]) -> ConfigDict:
    """Builds a config of the defaults; a dotted name makes nested sections."""
    config = ConfigDict()
    for name, field in fields.items():
        *sections, leaf = name.split(".")
        section = config
        for part in sections:
            if part not in section:
                section[part] = ConfigDict()
            section = section[part]
        section[leaf] = open_value(field, field.default)
    return config


def open_value(field: Field, value: Any) -> Any:
    """Returns a value as a ConfigDict keeps it: one that `field.words` may replace has no type."""
    return FieldReference(value, field_type=object) if field.words else value


def plain_config(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON would give it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    return plain


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
