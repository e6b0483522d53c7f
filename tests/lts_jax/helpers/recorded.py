"""Runs that record the batches they train on: here, or as the command in a process of its own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from lts_jax.data import examples
from lts_jax.training import loop


def record(setattr: Callable[..., None], seen: list) -> None:
    """From now on, `seen` gets each batch with its `sent_id`."""
    read, put = examples.Preprocessing.train_batch, loop.put_batch

    def with_ids(self, split, rows, *per_image):
        return read(self, split, rows, *per_image) | {"sent_id": split.index.sent_id[rows]}

    def recording(batch, mesh):
        if "sent_id" in batch:
            seen.append(batch)
        return put({k: v for k, v in batch.items() if k != "sent_id"}, mesh)

    setattr(examples.Preprocessing, "train_batch", with_ids)
    setattr(loop, "put_batch", recording)


def as_flags(config: ConfigDict, prefix: str = "--config") -> list[str]:
    """The arguments that set every field of a config."""
    flags = []
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            flags += as_flags(value, f"{prefix}.{name}")
        else:
            flags.append(f"{prefix}.{name}={value}")
    return flags


def on_both(
    repo_root: Path,
    command: Callable[[int, int], list[str]],
    environment: Callable[[int, int], dict[str, str]],
    timeout: float,
) -> tuple[list[int], list[str]]:
    """Runs Python on two processes.

    Args:
      repo_root: where to run.
      command: of a process, by its number and a free port.
      environment: what is added to that of a process, likewise.
      timeout: seconds until it is an error that one of them has not ended.

    Returns:
      How each ended, and what each printed.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [
        subprocess.Popen(
            [sys.executable, *command(k, port)],
            cwd=repo_root,
            env={**os.environ, **environment(k, port)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for k in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    return [process.returncode for process in both], said


def on_two_processes(
    repo_root: Path,
    out: Path,
    arguments: list[str],
    environment: Callable[[int, int], dict[str, str]],
    devices: int = 1,
) -> tuple[list[str], list[list[int]]]:
    """Runs the command on two processes.

    Args:
      repo_root: where to run.
      out: folder of the records.
      arguments: of the command.
      environment: of a process, by its number and a free port.
      devices: that each process has.

    Returns:
      What each printed, and the sent_ids of each batch of both together.
    """
    out.mkdir()
    xla = os.environ["XLA_FLAGS"]  # the last of a flag counts
    flags = {
        "PYTHONPATH": str(repo_root),
        "XLA_FLAGS": f"{xla} --xla_force_host_platform_device_count={devices}",
    }
    statuses, said = on_both(
        repo_root,
        lambda k, port: [__file__, str(out / f"{k}.json"), *arguments],
        lambda k, port: flags | environment(k, port),
        timeout=500,
    )
    assert statuses == [0, 0], "\n".join(said)
    halves = [json.loads((out / f"{k}.json").read_text()) for k in (0, 1)]
    return said, [a + b for a, b in zip(*halves, strict=True)]


if __name__ == "__main__":
    from lts_jax.main import main

    file, batches = Path(sys.argv.pop(1)), []
    record(setattr, batches)
    try:
        main()
    finally:
        file.write_text(json.dumps([batch["sent_id"].tolist() for batch in batches]))
