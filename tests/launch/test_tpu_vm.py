"""The other commands of tpu_vm.sh, and its flags."""

import json
import os
import shutil
import subprocess

import pytest

from tests.launch.expected import AT, BUCKET, TPU, TRAIN_ON_TPU, WORKER_SETUP, WORKER_START, printed

pytestmark = pytest.mark.skipif(
    not (shutil.which("setsid") and shutil.which("flock")),
    reason="no setsid or flock, which the workers' Linux has",
)


def test_delete_asks(machine):
    delete = f"{TPU} delete lts-jax --quiet {AT}"
    status, _, err = machine.run("tpu_vm.sh", "delete", typed="n\n")
    assert (status, machine.calls()) == (1, []) and "error: not deleted" in err
    assert machine.run("tpu_vm.sh", "delete")[0] == 1  # nobody to ask
    for more, typed in (((), "y\n"), (("--yes",), "")):
        machine.forget()
        assert machine.run("tpu_vm.sh", "delete", *more, typed=typed)[0] == 0
        assert machine.calls() == [delete]
    assert machine.run("tpu_vm.sh", "delete", "--dry-run")[1] == f"{delete}\n"


@pytest.mark.slow
def test_a_deleted_vm_is_not_made_anew(machine):
    machine.put("states", "NOT_FOUND", "READY", "NOT_FOUND")
    machine.put("runs", "until never")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN_ON_TPU)
    assert status == 1 and "lts-jax was deleted; rerun the same command to recreate it" in err
    machine.run("tpu_vm.sh", "delete", "--yes")


@pytest.mark.parametrize(
    ("accelerator", "version"),
    [
        ("v3-32", "tpu-ubuntu2204-base"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_the_environment_and_versions(machine, accelerator, version):
    env = {
        "LTS_TPU_NAME": "n",
        "LTS_TPU_ZONE": "z",
        "LTS_TPU_TYPE": accelerator,
        "LTS_TPU_PROJECT": "p",
        "LTS_TPU_SPOT": "1",
    }
    assert machine.run("tpu_vm.sh", "create", **env)[0] == 0
    flags = f"--accelerator-type={accelerator} --version={version} --spot --zone=z --project=p"
    assert machine.calls() == [f"{TPU} create n {flags}"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "specify create, setup, train, eval, status, stop or delete"),
        (("tain",), "unknown argument tain; see --help"),
        (("train", "--zone"), "--zone needs a value"),
        (("train", "--zone", "--spot"), "--zone needs a value"),
        (
            ("train", "--workdir=runs/a", "--config=configs/shapes.py"),
            "--workdir: specify a folder",
        ),
        (
            ("train", "--workdir=gs://b", "--config=configs/shapes.py"),
            "--workdir: specify a folder",
        ),
        (("train", "--workdir=gs://b/r", "--config=configs/shape.py"), "configs/shape.py is no"),
        (("train", "--workdir=gs://b/r", "--config=setup.py"), "setup.py is not a file in"),
        (("train", "--workdir=gs://b/r"), "--config: specify the config to train"),
        (("eval", "--workdir=gs://b/r", "--data=data"), "--data: specify a folder in a bucket"),
        (
            ("create", "--accelerator-type=v9-8"),
            "--accelerator-type v9-8: unknown type; specify its --version",
        ),
    ],
)
def test_bad_arguments(machine, args, said):
    status, _, err = machine.run("tpu_vm.sh", *args)
    assert status == 1 and err.startswith("error: ") and said in err
    assert machine.calls() == []


def test_a_flat_bucket_is_refused(machine):
    machine.put("buckets/b/flat")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN_ON_TPU)
    assert status == 1 and "gs://b has no hierarchical namespace; see docs/launch.md" in err
    assert machine.calls() == [BUCKET]


def test_a_config_by_name(machine):
    """It is looked up in configs/ here, and goes to the workers as typed."""
    args = ("eval", "--config=refcoco:star", "--workdir=gs://b/r")
    status, out, err = machine.run("tpu_vm.sh", "--dry-run", *args)
    assert status == 0 and "-- eval --config refcoco:star --workdir ../buckets/b/r" in out, err
    status, _, err = machine.run("tpu_vm.sh", "--dry-run", *args, "--config=refcocos")
    assert status == 1 and err == "error: --config: configs/refcocos.py is not a file in configs/\n"


def test_a_dry_run_on_a_worker(machine):
    machine.cwd = machine.folder / "lts_jax"
    (machine.cwd / ".launch").mkdir(parents=True)
    for name in ("lts_jax", "configs"):
        (machine.cwd / name).symlink_to(machine.root / name)
    status, out, err = machine.run("tpu_worker.sh", "--dry-run", "setup", HOME="/home")
    commands = [line.removeprefix("/home/.local/bin/") for line in out.splitlines()]
    assert (status, machine.calls()) == (0, []), err
    assert [line for line in commands if line.startswith(("curl", "uv"))] == WORKER_SETUP

    args = ("start", "--data=gs://b/data", "--bucket=b", "--dry-run", "--", "train", "--config=x")
    status, _, err = machine.run("tpu_worker.sh", *args)
    assert (status, err) == (1, "error: this worker is not set up: run setup first\n")
    (machine.cwd / ".launch/ready").touch()
    status, out, err = machine.run("tpu_worker.sh", *args)
    assert (status, machine.calls()) == (0, ["mountpoint -q ../buckets/b"]), err
    commands = [line for line in out.splitlines() if not line.startswith("mkdir")]
    assert commands == [line for line in WORKER_START if line not in machine.calls()]


@pytest.mark.slow
def test_gcloud_itself_knows_the_commands(machine, tmp_path):
    """Its linter parses the words as a call would, and asks nobody."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        pytest.skip("no gcloud here")
    flags = ("--dry-run", "--spot", "--project=p")
    lines = printed(machine.run("tpu_vm.sh", *flags, *TRAIN_ON_TPU)[1])
    lines += machine.run("tpu_vm.sh", "--dry-run", "delete")[1].splitlines()
    lines += [call for call in WORKER_START if call.startswith("gcloud")]
    # A flag without a value must come last: the linter takes the next word for its value.
    commands = [{"command_string": line} for line in dict.fromkeys(lines)]
    (tmp_path / "commands.json").write_text(json.dumps([*commands, {"command_string": f"{TPU} x"}]))
    env = os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "nobody")}
    out = subprocess.run(
        [gcloud, "meta", "lint-gcloud-commands", f"--commands-file={tmp_path}/commands.json"],
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
        check=True,
    )
    results = json.loads(out.stdout)
    assert len(results) == len(commands) + 1 == 11
    assert [r["command_string"] for r in results if not r["success"]] == [f"{TPU} x"], out.stdout
