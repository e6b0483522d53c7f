"""Locates files on the Hugging Face Hub, `hf://owner/name[@revision]`, or on this machine."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lts_jax.errors import ConfigError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_REFERENCE = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")


class Located(NamedTuple):
    """A local file.

    Attributes:
      path: path of the file.
      record: for the run's metadata: `repository` and `revision` (commit) of a file from the hub.
    """

    path: Path
    record: dict[str, str]


def find_file(field: str, reference: str, names: Sequence[str] = WEIGHTS) -> Located:
    """Finds a file in a hub repository or a local folder; a path to a file is returned as is.

    huggingface_hub caches downloads; with `HF_HUB_OFFLINE=1` only the cache is used.

    Args:
      field: the config field, for errors.
      reference: `hf://owner/name`, `hf://owner/name@revision`, or a path.
      names: accepted file names, in order of preference.

    Raises:
      ConfigError: the file or repository does not exist, or the hub is unreachable.
    """
    if reference.startswith("hf://"):
        return _download(field, reference, names)
    path = Path(reference)
    if not path.is_dir():
        return Located(path, {})
    for name in names:
        if (path / name).is_file():
            return Located(path / name, {})
    raise ConfigError(f"{field}={reference}: the folder contains no {' or '.join(names)}")


def _download(field: str, reference: str, names: Sequence[str]) -> Located:
    # Deferred: the import takes 0.3 s and is only needed for downloads.
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            f"{field}={reference} must be hf://owner/name or hf://owner/name@revision"
        )
    repository, revision = match.groups()
    disable_progress_bars()  # stderr escapes the characters that move the cursor
    for name in names:
        try:
            path = Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
        except errors.LocalEntryNotFoundError as error:
            raise ConfigError(
                f"{field}={reference}: {name} is not in the cache, and the hub cannot be reached: "
                "connect once, or set the path of a downloaded file"
            ) from error
        except errors.EntryNotFoundError:
            continue
        except errors.RevisionNotFoundError as error:
            raise ConfigError(
                f"{field}={reference}: {repository} has no revision {revision}"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise ConfigError(
                f"{field}={reference}: the hub has no repository {repository}, or it is private or "
                "gated: check the name, or log in with `hf auth login`"
            ) from error
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"{field}={reference}: {name}: {reason}") from error
        return Located(path, {"repository": repository, "revision": path.parent.name})
    raise ConfigError(f"{field}={reference}: {repository} has no {' or '.join(names)}")
