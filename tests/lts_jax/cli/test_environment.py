"""Commands with a minimal or a notebook's environment, in a read-only folder."""

import os
import subprocess
import sys

import pytest

from tests.lts_jax.helpers.recorded import as_flags
from tests.lts_jax.helpers.tiny import leave_little

pytestmark = pytest.mark.slow

KEPT = ("PATH", "XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
ENVIRONMENTS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "notebook": {"MPLBACKEND": "module://none", "JAX_ENABLE_X64": "1"},
}
TEXT = "the “red” cup × 杯子"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("command", ["train", "eval", "predict", "report", "stats"])
def test_a_bare_environment(
    trained_run, tiny_config_factory, shapes_dir, repo_root, tmp_path, command, environment
):
    config = leave_little(tiny_config_factory())
    config.train.epochs = 0.1
    config.train.drop_epochs = ()
    config.eval.splits = ("val",)
    photo = trained_run / "eval" / "val" / "gallery.png"
    arguments = {
        "train": ["train", "--config=shapes", f"--workdir={tmp_path}/w", *as_flags(config)],
        "eval": ["eval", f"--workdir={trained_run}", "--config.eval.splits=testB"],
        "predict": [
            *("predict", f"--workdir={trained_run}", f"--image={photo}", f"--text={TEXT}"),
            f"--out={tmp_path}/out",
        ],
        "report": ["report", str(trained_run), f"--out={tmp_path}/report.html"],
        "stats": ["data", "stats", f"--out={shapes_dir}", "--dataset=shapes"],
    }[command]
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o555)
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "lts_jax", *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(repo_root)} | ENVIRONMENTS[environment],
        capture_output=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0 and b"Traceback" not in output, output.decode(errors="replace")
    assert environment == "notebook" or output.isascii()
    assert not list(folder.iterdir())
