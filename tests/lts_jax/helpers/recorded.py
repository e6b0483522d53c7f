"""Records the training batches of runs in this process or in separate processes."""

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
    """Patches training so that each batch, with its `sent_id`, is appended to `seen`."""
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
    """Returns the arguments that set all fields of a config."""
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
    """Runs two Python processes.

    Args:
      repo_root: working directory.
      command: returns the arguments of a process from its number and a free port.
      environment: returns additional environment variables, from the same arguments.
      timeout: seconds for each process.

    Returns:
      The exit statuses and the outputs of both processes.
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
        outputs = [process.communicate(timeout=timeout)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    return [process.returncode for process in both], outputs


def on_two_processes(
    repo_root: Path,
    out: Path,
    arguments: list[str],
    environment: Callable[[int, int], dict[str, str]],
    devices: int = 1,
) -> tuple[list[str], list[list[int]]]:
    """Runs the command with two processes.

    Args:
      repo_root: working directory.
      out: folder of the records.
      arguments: of the command.
      environment: returns environment variables from the process number and a free port.
      devices: number per process.

    Returns:
      The outputs of both processes, and the sent_ids of each global batch.
    """
    out.mkdir()
    xla = os.environ["XLA_FLAGS"]  # the last value of a repeated flag is used
    flags = {
        "PYTHONPATH": str(repo_root),
        "XLA_FLAGS": f"{xla} --xla_force_host_platform_device_count={devices}",
    }
    statuses, outputs = on_both(
        repo_root,
        lambda k, port: [__file__, str(out / f"{k}.json"), *arguments],
        lambda k, port: flags | environment(k, port),
        timeout=500,
    )
    assert statuses == [0, 0], "\n".join(outputs)
    halves = [json.loads((out / f"{k}.json").read_text()) for k in (0, 1)]
    return outputs, [a + b for a, b in zip(*halves, strict=True)]


if __name__ == "__main__":
    from lts_jax.main import main

    file, batches = Path(sys.argv.pop(1)), []
    record(setattr, batches)
    try:
        main()
    finally:
        file.write_text(json.dumps([batch["sent_id"].tolist() for batch in batches]))
