"""A machine on which every program that the launch scripts call is a stand-in."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

UNINSTALLED = ("uv", "gcsfuse")
INSTALLED = ("gcloud", "curl", "sudo", "mountpoint", "python", "srun", "scancel", "scontrol")


class Machine:
    """Runs launch scripts in the repository's root, and lists the programs that they called."""

    def __init__(self, folder: Path, repo_root: Path):
        self.folder, self.root, self.cwd = folder, repo_root, repo_root
        source = Path(__file__).with_name("stand_in.py").read_text()
        stand_in = folder / "stand_in"
        stand_in.write_text(f"#!{sys.executable} -SE\n{source}")
        stand_in.chmod(0o755)
        for names, part in ((INSTALLED, "bin"), (UNINSTALLED, "uninstalled")):
            (folder / part).mkdir()
            for name in names:
                (folder / part / name).symlink_to(stand_in)
        (folder / "buckets/b/data").mkdir(parents=True)
        (folder / "buckets/b/data/set").write_text("records")
        dropped = ("SLURM", "JAX", "XLA", "GLIBC")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        self.env = kept | {
            "FAKE": str(folder),
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "TMPDIR": str(folder),
        }

    def put(self, name: str, *lines: str) -> None:
        """Writes a file that the stand-ins read."""
        (self.folder / name).write_text("\n".join(lines))

    def popen(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "launch" / script), *args],
            cwd=self.cwd,
            env=self.env | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell takes SIGINT for Ctrl-C only where it is not ignored from the start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, *args: str, typed: str = "", **env: str):
        """Runs a script to its end: its status, what it printed, and its errors."""
        process = self.popen(script, *args, **env)
        out, err = process.communicate(typed, timeout=300)
        return process.returncode, out, err

    def calls(self, where: str = "here") -> list[str]:
        """The calls from the user's machine or a worker, as shell lines."""
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = [json.loads(line) for line in lines]
        return [shlex.join(call["call"]) for call in calls if call["where"] == where]

    def forget(self) -> None:
        (self.folder / "calls.jsonl").unlink(missing_ok=True)

    def wait_for(self, name: str) -> Path:
        """Waits for a file of the stand-ins."""
        path = self.folder / name
        for _ in range(3000):
            if path.exists() and path.stat().st_size:
                return path
            time.sleep(0.01)
        raise TimeoutError(name)


@pytest.fixture
def machine(tmp_path, repo_root):
    machine = Machine(tmp_path, repo_root)
    yield machine
    for path in tmp_path.glob("worker*/lts_jax/.launch/pid"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)
