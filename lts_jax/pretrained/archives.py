"""Zips that word vectors are published in, or that their users have made."""

import zipfile
from pathlib import Path

from lts_jax.errors import ConfigError

_MAX_RATIO = 200  # of unpacking: only bombs shrink more


def find_member(path: Path, archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """Returns the entry that holds word vectors of `size` numbers.

    Raises:
      ConfigError: there is none, or more than one, or it unpacks to too much.
    """
    texts = [
        info
        for info in archive.infolist()
        if info.filename.endswith(".txt") and not _is_of_finder(info.filename)
    ]
    fitting = [info for info in texts if f"{size}d" in info.filename] if len(texts) > 1 else texts
    if len(fitting) != 1:
        names = ", ".join(info.filename for info in archive.infolist()[:8]) or "none"
        raise ConfigError(
            f"{path}: its members are {names}; one .txt with {size}d in its name is needed "
            f"(model.embed_dim={size}); the directory ends at byte {path.stat().st_size}"
        )
    info = fitting[0]
    if info.file_size > 1 << 20 and info.file_size > _MAX_RATIO * info.compress_size:
        raise ConfigError(
            f"{path}: {info.filename}, at byte {info.header_offset}: {info.compress_size:,} bytes "
            f"unpack to {info.file_size:,}, more than {_MAX_RATIO} times as many: no word vectors, "
            "which shrink to a third"
        )
    return info


def _is_of_finder(name: str) -> bool:
    """Whether macOS has added an entry, as `__MACOSX/._glove.txt`, to a zip."""
    *above, last = name.split("/")
    return "__MACOSX" in above or last.startswith("._")
