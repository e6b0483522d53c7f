"""What the commands share: flags whose errors are one line."""

import re
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from lts_jax.checks import check_config
from lts_jax.errors import ConfigError

OVERRIDE = r"--?(no)?config\."
"""How an argument begins that sets a field of the config."""

# ml_collections puts the traceback of a get_config that raised into its message, under this.
_TRACEBACK = "Error whilst parsing config file"


def parse_flags(argv: list[str], known_only: bool = False) -> list[str]:
    """Parses the command line, for `app.run`; what is wrong with it ends the program in words.

    Args:
      argv: the program's name and its arguments.
      known_only: whether flags that are not defined are left, and no error.

    Returns:
      The program's name and the arguments that are no flags.
    """
    try:
        return flags.FLAGS(argv, known_only)
    except flags.Error as error:
        if _TRACEBACK in str(error):
            sys.exit(f"error: {flag_error(error)}")
        sys.exit(
            f"FATAL Flags parsing error: {error}\n"
            "Pass --helpshort or --helpfull to see help on flags."
        )
    except ImportError as error:
        sys.exit(f"error: {error}; run the command in the folder that holds configs/")
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        # What ml_collections raises on a misspelt field, a wrong type, a missing file.
        sys.exit(f"error: {flag_error(error)}")


def split_lists(config: ConfigDict) -> ConfigDict:
    """Takes `--config.eval.splits=val,testA` for two splits; ml_collections makes it one text."""
    names = (name.strip() for text in config.eval.splits for name in text.split(","))
    config.eval.splits = tuple(name for name in names if name)
    return config


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Sets fields of a config as `--config.a.b=…` do of a config file's.

    Raises:
      ConfigError: they do not fit it.
    """
    values = flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=list(overrides)
        )
        if unknown := values(["main", *overrides])[1:]:
            raise ConfigError(f"unknown arguments: {' '.join(unknown)}")
        result: ConfigDict = split_lists(holder.value)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(flag_error(error)) from error
    return result


def requested_config(config: str, overrides: Sequence[str]) -> ConfigDict:
    """Returns the config that `lts_jax.main` makes of `--config=<config>` and the overrides.

    Raises:
      ConfigError: the config file has no such variant, or the overrides do not fit it.
    """
    arguments = ["main", f"--config={config}", *overrides]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        values(arguments)
        result: ConfigDict = split_lists(holder.value)
        check_config(result)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{config}: {flag_error(error)}") from error
    return result


def flag_error(error: Exception) -> str:
    """Returns in words what parsing flags raised."""
    # A KeyError shows its message quoted.
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if _TRACEBACK in message:
        message = message.rstrip().splitlines()[-1]
        for name in ("TypeError: ", "ValueError: "):
            message = message.removeprefix(name)
        if re.search(r"get_config\(\) takes 0 positional arguments", message):
            message = "the config file has no variants: give it without :<variant>"
    return message
