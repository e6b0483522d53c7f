"""Descriptions of config fields, and the ConfigDict built from a table of fields."""

import dataclasses
import enum
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FieldReference


class Scope(enum.Enum):
    """Where a field must keep its value."""

    NETWORK = enum.auto()
    """Defines the network or its inputs: eval and predict need the value used in training."""
    RUN = enum.auto()
    """Defines the run: must not change when the run is resumed."""
    RESUME = enum.auto()
    """May change when the run is resumed."""
    MACHINE = enum.auto()
    """May change when the run is resumed, and may differ between the processes of a run."""


class Check(NamedTuple):
    """A condition on a value as loaded from JSON, in which tuples are lists.

    Attributes:
      accepts: returns whether a value satisfies the condition.
      message: text of the error, after the field's name and value.
    """

    accepts: Callable[[Any], bool]
    message: str


@dataclasses.dataclass(frozen=True)
class Field:
    """The complete description of a config field.

    Attributes:
      default: the paper's value.
      help: meaning and unit.
      checks: conditions on the value, in order; not applied to `words`.
      scope: where the field must keep its value.
      words: strings that are accepted in addition to values of the default's type.
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
PROBABILITY = Check(lambda x: 0 <= x < 1, "must be at least 0 and less than 1")
SHARE = Check(lambda x: 0 <= x <= 1, "must be between 0 and 1")
SEED = Check(lambda x: 0 <= x < 2**32, "must be between 0 and 2**32 - 1")
BLOCKS = Check(
    lambda x: all(isinstance(n, int) and 0 <= n <= 1000 for n in x),
    "must be block counts (integers) between 0 and 1,000",
)
RATES = Check(
    lambda x: all(_is_count(n) and n <= 1000 for n in x) and len(set(x)) == len(x) <= 20,
    "must be at most 20 different integers between 1 and 1,000",
)
WEIGHTS = Check(
    lambda x: all(type(n) in (int, float) and 0 < n <= 1e6 for n in x),
    "must be positive numbers up to 1,000,000",
)
INCREASING = Check(
    lambda x: (
        all(isinstance(n, int | float) and 0 < n < math.inf for n in x) and sorted(set(x)) == x
    ),
    "must be positive, increasing numbers",
)
_ONE = r"\w[\w.-]*(/\w[\w.-]*)?"
_SPLIT = re.compile(rf"{_ONE}( *\+ *{_ONE})*")  # also the name of a results directory
SPLITS = Check(
    lambda x: (
        all(isinstance(name, str) and _SPLIT.fullmatch(name) for name in x)
        and len(set(x)) == len(x) > 0
    ),
    "must be one or more split names without duplicates",
)


def up_to(most: int) -> tuple[Check, Check]:
    """Checks that a value is positive and at most `most`; larger values are surely mistakes."""
    return (POSITIVE, Check(lambda x: x <= most, f"must be at most {most:,}"))


def zero_to(most: int) -> tuple[Check, Check]:
    """Checks that a value is 0, or passes `up_to`."""
    return (NOT_NEGATIVE, Check(lambda x: x <= most, f"must be at most {most:,}"))


def one_of(*choices: str) -> tuple[Check]:
    """Checks that a value is one of a few strings."""
    return (Check(lambda x: x in choices, f"must be one of {', '.join(choices)}"),)


def multiple_of(n: int) -> Check:
    """Checks that a value is a multiple of n."""
    return Check(lambda x: x % n == 0, f"must be a multiple of {n}")


def make_config(fields: Mapping[str, Field]) -> ConfigDict:
    """Builds a config with the default values; dotted names become nested sections."""
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
    """Wraps a value for a ConfigDict: untyped if `field.words` can replace it."""
    return FieldReference(value, field_type=object) if field.words else value


def plain_config(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as a JSON round trip does: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    return plain


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
