"""The Dockerfile, and what all scripts have in common."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPTS = ("gpu.sh", "reproduce.sh", "slurm.sbatch", "tpu_vm.sh", "tpu_worker.sh")


def tool(name):
    """Returns the path of a linter, preferably the one in this Python's environment."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def test_shellcheck(repo_root):
    scripts = [f"launch/{name}" for name in (*SCRIPTS, "common.sh")]
    files = {str(p.relative_to(repo_root)) for p in repo_root.glob("launch/*.s*")}
    assert files == set(scripts)
    out = subprocess.run(
        [tool("shellcheck"), "-x", *scripts], cwd=repo_root, capture_output=True, check=False
    )
    assert (out.returncode, out.stdout) == (0, b""), out.stdout.decode()


def test_hadolint(repo_root):
    out = subprocess.run(
        [tool("hadolint"), "launch/Dockerfile"], cwd=repo_root, capture_output=True, check=False
    )
    assert (out.returncode, out.stdout) == (0, b""), out.stdout.decode()


def test_the_dockerfile_fits_the_repository(repo_root):
    lines = (repo_root / "launch/Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    ignored = (repo_root / ".dockerignore").read_text().split()
    for name in copied:
        assert (repo_root / name).exists() and f"!{name}" in ignored, name
    for link in filter(Path.is_symlink, (repo_root / "lts_jax").iterdir()):
        assert str(link.resolve().relative_to(repo_root)) in copied, link
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())
    (extra,) = re.findall(r"pip install .*'\.\[(\w+)\]'", "\n".join(lines))
    assert extra in project["project"]["optional-dependencies"]
    (entry,) = re.findall(r'ENTRYPOINT \["(.*)"\]', "\n".join(lines))
    assert os.access(repo_root / entry, os.X_OK)
    # The installation needs these, and the packages with the configs that lts_jax links to.
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert needed <= set(copied)
    before, _, after = "\n".join(lines).partition("RUN pip install")
    for name in {*needed, "lts_jax", "tfds_refcoco", "configs"}:
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", before, re.MULTILINE), name
    assert re.findall("^COPY .*", after, re.MULTILINE) == ["COPY launch launch"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_and_knows_its_flags(machine, script):
    status, out, err = machine.run(script, "--help")
    assert (status, err) == (0, "") and "--dry-run" in out and f"launch/{script}" in out
    named = {flag for flag in re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE)} - {"--"}
    for flag in named - {"--dry-run", "--spot", "--yes"}:
        status, _, err = machine.run(script, flag)
        assert (status, err) == (1, f"error: {flag} needs a value\n")
    status, _, err = machine.run(script, "--confg=x")
    assert status == 1 and err.startswith("error: unknown argument --confg; see --help")
    assert machine.calls() == []


def test_every_documented_command_is_understood(machine, repo_root):
    sources = [repo_root / "README.md", repo_root / "docs/launch.md"]
    sources += [repo_root / "launch" / script for script in SCRIPTS[:-1]]
    found = re.findall(
        r"(?:^|`|^#   )(?:\w+=\w* )?(?:sbatch [^`\n]*)?launch/([\w.]+) ([^`#|…\n]+)(?:`| #|…|$)",
        re.sub(r" \\\n#? *", " ", "\n".join(path.read_text() for path in sources)),
        re.MULTILINE,
    )
    assert len(found) >= 20
    for name in ("darknet53.weights", "glove.840B.300d.zip"):
        machine.put(name, "x")
    for script, line in found:
        words = [
            str(machine.folder / word) if (machine.folder / word).is_file() else word
            for word in shlex.split(line)
        ]
        status, out, err = machine.run(script, "--dry-run", *words)
        assert status == 0 and out, (script, words, err)
