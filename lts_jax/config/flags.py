"""Loads a config by name or path and applies `--config.a.b=…` overrides."""

import ast
import contextlib
import difflib
import re
import reprlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

import lts_jax.configs
from lts_jax.config.validation import check_config
from lts_jax.configs.default import FIELDS
from lts_jax.configs.fields import open_value
from lts_jax.errors import ConfigError

# If get_config raises, ml_collections includes the traceback in its message after this line.
_TRACEBACK = "Error whilst parsing config file"
_OVERRIDE = re.compile(r"--?(no)?config\.(?P<field>[^=]+)(?P<value>=.*)?", re.DOTALL)
_LOADING = threading.Lock()  # `lts tables` loads configs in threads
_ERRORS = (
    flags.Error,
    AttributeError,
    ImportError,
    KeyError,
    NameError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


def shipped_configs() -> dict[str, Path]:
    """Returns the files of the configs included in the package, by name."""
    folder = Path(next(iter(lts_jax.configs.__path__)))
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    return {path.stem: path for path, text in texts.items() if "\ndef get_config(" in text}


def config_path(name: str) -> tuple[Path, str]:
    """Splits `--config` into the file and the variant, "" if there is none.

    Args:
      name: the name of a shipped config or the path of a file, optionally with `:variant`.

    Raises:
      ConfigError: the config does not exist; the message lists the names.
    """
    file, _, variant = name.partition(":")
    if file.endswith(".py") or "/" in file:
        path = Path(file)
        if not path.is_file():
            raise ConfigError(f"--config {name}: file {file} does not exist; {_names(path.stem)}")
        return path, variant
    shipped = shipped_configs()
    if file not in shipped:
        raise ConfigError(f"--config {name}: unknown config {file!r}; {_names(file)}")
    return shipped[file], variant


def _names(wanted: str) -> str:
    names = list(shipped_configs())
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}Use one of {', '.join(names)}, or the path of a .py file"


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates config overrides from the other arguments.

    Overrides are `--config.a.b=1`, `--config.a.b 1`, `--config.flag` and `--noconfig.flag`.

    Returns:
      The overrides and the other arguments.

    Raises:
      ConfigError: a value is missing.
    """
    overrides: list[str] = []
    others: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        match = _OVERRIDE.fullmatch(argument)
        if match is None:
            others.append(argument)
            continue
        field = FIELDS.get(match["field"])
        is_switch = match[1] or (field is not None and isinstance(field.default, bool))
        if match["value"] is None and not is_switch:
            value = next(remaining, None)
            if value is None or value.startswith("--"):
                raise ConfigError(f"{argument}: missing value; use {argument}=VALUE")
            argument += f"={value}"
        overrides.append(argument)
    return overrides, others


def overridden_fields(overrides: Sequence[str]) -> list[str]:
    """Returns the names of the overridden fields."""
    return [match["field"] for x in overrides if (match := _OVERRIDE.fullmatch(x))]


def load_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config, applies overrides and validates it.

    Args:
      name: see `config_path`.
      overrides: arguments such as `--config.train.epochs=2`.

    Raises:
      ConfigError: the config or variant does not exist, or an override or a value is invalid.
    """
    path, variant = config_path(name)
    arguments = ["lts", f"--config={path}" + (f":{variant}" if variant else ""), *overrides]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", flag_values=values, sys_argv=arguments, lock_config=True
    )
    try:
        with _LOADING:
            # ml_collections reuses the module of the previously loaded file, if there is one.
            sys.modules.pop("config_config", None)
            rest = values(arguments)[1:]
        _refuse(rest)
        config = _split_lists(holder.value)
        check_config(config)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    except _ERRORS as error:
        raise ConfigError(f"{name}: {_describe(error)}") from error
    return config


def _refuse(rest: Sequence[str]) -> None:
    if rest:
        raise ConfigError(f"unrecognized arguments: {' '.join(rest)}")


def override_config(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Applies overrides to a config that was not read from a file and validates it.

    Raises:
      ConfigError: an override or a value is invalid.
    """
    values = flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=list(overrides)
        )
        _refuse(values(["lts", *overrides])[1:])
        result: ConfigDict = _split_lists(holder.value)
        check_config(result)
    except ConfigError:
        raise
    except _ERRORS as error:
        raise ConfigError(_describe(error)) from error
    return result


def saved_config(saved: Any) -> ConfigDict:
    """Builds a config from a checkpoint's JSON, in which tuples are lists, and validates it.

    Raises:
      ConfigError: the value is not a valid config.
    """

    def typed(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {k: typed(v, f"{name}.{k}" if name else k) for k, v in value.items()}
        value = tuple(value) if isinstance(value, list) else value
        return open_value(FIELDS[name], value) if name in FIELDS else value

    if not isinstance(saved, dict):
        raise ConfigError(f"{reprlib.repr(saved)} is not a mapping of sections")
    try:
        config = ConfigDict(typed(saved)).lock()
        check_config(config)
    except RecursionError:
        raise ConfigError("nested too deeply") from None
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:  # for example a dot in a name
        raise ConfigError(str(error)) from error
    return config


def _split_lists(config: ConfigDict) -> ConfigDict:
    """Splits `--config.eval.splits=val,testA` into two, and `--config.data.mix=` into none.

    ml_collections parses each of them as one string.
    """
    splits = config.get("eval", {}).get("splits", ())
    if all(isinstance(text, str) for text in splits):
        names = (name.strip() for text in splits for name in text.split(","))
        config.update({"eval": {"splits": tuple(name for name in names if name)}})
    for section in config.values():
        for name, value in section.items() if isinstance(section, ConfigDict) else ():
            if isinstance(value, tuple | list) and list(value) == [""]:
                section[name] = ()
    return config


def _describe(error: Exception) -> str:
    """Returns a readable message for an error raised while reading a config."""
    # A KeyError quotes its message.
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, AttributeError):  # ml_collections quotes its message
        with contextlib.suppress(ValueError, SyntaxError):
            message = ast.literal_eval(message)
    # ml_collections names the module it creates for a file and lists the path it searched.
    message = message.removeprefix(
        "Configuration is not available because of an earlier failure to load: "
    )
    if message.startswith("Failed loading config file config_config"):
        message = message.rstrip().splitlines()[-1].strip()
    message = message.replace("module 'config_config' has no attribute", "the file has no function")
    message = re.sub(
        r"object has no attribute '(get|to_dict)'", "is what get_config() returns", message
    )
    # It quotes the name of an unknown field and prints messages and values as a tuple.
    message = re.sub(r"^'(\w+)'\nDid you mean", r"unknown field \1. Did you mean", message)
    message = re.sub(r"\('(.*)', '(.*)'\)$", r"\1 '\2'", message)
    if isinstance(error, ImportError) and "'configs'" in message:
        message += "; the shipped configs are now in lts_jax.configs"
    if _TRACEBACK in message:
        message = message.rstrip().splitlines()[-1]
        for name in ("TypeError: ", "ValueError: "):
            message = message.removeprefix(name)
        if re.search(r"get_config\(\) takes 0 positional arguments", message):
            message = "the config file has no variants: omit :<variant>"
    return message
