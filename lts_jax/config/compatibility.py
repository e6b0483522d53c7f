"""Compares the config and the data of a run with those of a checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lts_jax.configs.default import FIELDS
from lts_jax.configs.fields import Scope, flatten, plain_config
from lts_jax.errors import ConfigError

_CHANGE_ON_RESUME = (Scope.RESUME, Scope.MACHINE)


def check_same_run(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """Raises ConfigError naming the fields in which a workdir's run differs from `config`.

    Args:
      saved: the config that the workdir's checkpoint holds.
      config: the config of the command; fields that a resumed run may change may differ.
      workdir: named in the error.
    """
    _check_same(saved, config, workdir, lambda scope: scope not in _CHANGE_ON_RESUME)


def check_same_model(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """As `check_same_run`, for the fields that shape the network and its inputs."""
    _check_same(saved, config, workdir, lambda scope: scope is Scope.NETWORK)


def check_same_data(saved: Mapping[str, Any], run: Mapping[str, Any], workdir: Path) -> None:
    """Raises ConfigError naming what differs in a run's data or vocabulary.

    Args:
      saved: what the workdir's checkpoint holds: `data`, and `vocabulary`, the words in order.
      run: the same of the run to resume.
      workdir: named in the error.
    """
    differing = _differences(saved["data"], run["data"])
    old, new = saved["vocabulary"], run["vocabulary"]
    if old != new:
        for where, words in (("there", set(old) - set(new)), ("now", set(new) - set(old))):
            some = ", ".join(sorted(words)[:10]) + (", …" if len(words) > 10 else "")
            differing.append(f"  words only {where}: {len(words)} {some}".rstrip())
    if differing:
        listed = "\n".join(differing)
        raise ConfigError(
            f"{workdir} was trained on other data:\n{listed}\n"
            "Give the old data back (data.dir), or take another --workdir."
        )


def shared_values(run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what all processes of a run must agree on, by name.

    Args:
      run: `config`, `data`, `vocabulary` and `arithmetic` of a process, see `Experiment.describe`.
    """
    flat = flatten({key: run[key] for key in ("config", "data", "vocabulary", "arithmetic")})
    own = {f"config.{name}" for name, field in FIELDS.items() if field.scope is Scope.MACHINE}
    return {name: value for name, value in flat.items() if name not in own}


def _check_same(
    saved: Mapping[str, Any], config: ConfigDict, workdir: Path, compared: Callable[[Scope], bool]
) -> None:
    names = {name for name, field in FIELDS.items() if compared(field.scope)}
    old, new = flatten(saved), flatten(plain_config(config))
    differing = _differences(*({n: x[n] for n in names & x.keys()} for x in (old, new)))
    if differing:
        listed = "\n".join(differing)
        raise ConfigError(
            f"{workdir} holds a run with another config:\n{listed}\n"
            "Give these fields their old values, or take another --workdir."
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines with both values of what differs, by name."""
    return [
        f"  {name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
