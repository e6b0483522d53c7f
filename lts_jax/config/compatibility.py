"""Compares a run's config and data with those of a checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lts_jax.configs.default import FIELDS
from lts_jax.configs.fields import Scope, flatten, plain_config
from lts_jax.errors import ConfigError

_CHANGE_ON_RESUME = (Scope.RESUME, Scope.MACHINE)


def check_same_run(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """Raises ConfigError if the config of a workdir's run differs from `config`.

    Args:
      saved: the config in the workdir's checkpoint.
      config: the config of the command. Fields that may change on resume are not compared.
      workdir: named in the error.
    """
    _check_same(saved, config, workdir, lambda scope: scope not in _CHANGE_ON_RESUME)


def check_same_model(saved: Mapping[str, Any], config: ConfigDict, workdir: Path) -> None:
    """Like `check_same_run`, for the fields that define the network and its inputs."""
    _check_same(saved, config, workdir, lambda scope: scope is Scope.NETWORK)


def check_same_data(saved: Mapping[str, Any], run: Mapping[str, Any], workdir: Path) -> None:
    """Raises ConfigError if a run's data or vocabulary differs from the checkpoint's.

    Args:
      saved: `data` and `vocabulary` (the words in order) from the workdir's checkpoint.
      run: the same fields of the run to resume.
      workdir: named in the error.
    """
    differing = _differences(saved["data"], run["data"])
    old, new = saved["vocabulary"], run["vocabulary"]
    if old != new:
        changes = (("in the checkpoint", set(old) - set(new)), ("now", set(new) - set(old)))
        for where, words in changes:
            some = ", ".join(sorted(words)[:10]) + (", …" if len(words) > 10 else "")
            differing.append(f"  words only {where}: {len(words)} {some}".rstrip())
    if differing:
        listed = "\n".join(differing)
        raise ConfigError(
            f"{workdir} was trained on other data:\n{listed}\n"
            "Restore the old data (data.dir), or use another --workdir."
        )


def shared_values(run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that must be equal on all processes of a run, by name.

    Args:
      run: the process's `config`, `data`, `vocabulary` and `arithmetic`, see `Experiment.describe`.
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
            f"{workdir} contains a run with another config:\n{listed}\n"
            "Restore the old values of these fields, or use another --workdir."
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns a line with both values for each name whose values differ."""
    return [
        f"  {name}: {old.get(name, 'absent')} in the checkpoint, {new.get(name, 'absent')} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
