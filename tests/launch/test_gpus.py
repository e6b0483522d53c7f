"""gpu.sh and slurm.sbatch."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.expected import ON_GPUS, RUN, SLURM, STEP, TRAIN


@pytest.mark.parametrize("script", ["gpu.sh", "slurm.sbatch"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--workdir=gs://b/r", "--config=x"), "--workdir gs://b/r is not a local folder"),
        (("--data=gs://b/r", "--config=x"), "--data gs://b/r is not a local folder"),
        ((), "--config: specify the config to train"),
        (("eval",), "--workdir: specify the run to evaluate"),
    ],
)
def test_bad_arguments(machine, script, args, said):
    status, _, err = machine.run(script, *args)
    assert status == 1 and err.startswith(f"error: {said}") and machine.calls() == []


@pytest.mark.parametrize("script", ["gpu.sh", "slurm.sbatch", "reproduce.sh"])
def test_no_interpreter(machine, script):
    args = ("--sets=refcoco",) if script == "reproduce.sh" else RUN
    status, _, err = machine.run(script, *args, PYTHON="no/python")
    said = "error: no/python not found: activate the environment, or set PYTHON\n"
    assert status == 1 and err.endswith(said) and machine.calls() == []


def test_gpu(machine):
    args = (*RUN, "--data=d", "--gpus=0,1", "--", "--config.seed=2")
    status, out, err = machine.run("gpu.sh", *args)
    words = (*TRAIN, "--config.data.dir=d", "--config.seed=2")
    assert (status, machine.calls()) == (0, [shlex.join(["python", *words])]), err
    assert "JAX_PLATFORMS cuda" in out
    _, dry, _ = machine.run("gpu.sh", "--dry-run", *args)
    assert dry == shlex.join([*ON_GPUS, "CUDA_VISIBLE_DEVICES=0,1", "python", *words]) + "\n"
    machine.put("runs", "exit 3")
    status, out, _ = machine.run("gpu.sh", *RUN, JAX_PLATFORMS="rocm")
    assert status == 3 and "JAX_PLATFORMS rocm" in out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=1", "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        ("glibc.malloc.hugetlb=2:glibc.a=1", "glibc.malloc.hugetlb=2:glibc.a=1"),
    ],
)
def test_huge_pages_unless_the_user_chose(machine, before, after):
    status, out, err = machine.run("gpu.sh", *RUN, GLIBC_TUNABLES=before)
    assert status == 0 and out.endswith(f" with {after}\n"), err


def test_gpu_passes_signals_on(machine):
    machine.put("runs", "until never")
    process = machine.popen("gpu.sh", *RUN)
    machine.wait_for("running_here")
    process.terminate()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "saved" in out


def test_slurm(machine):
    args = (*RUN, "--", "--config.train.batch_size=8")
    status, dry, err = machine.run("slurm.sbatch", "--dry-run", *args, **SLURM)
    assert status == 0 and machine.calls() == [], err
    status, _, err = machine.run("slurm.sbatch", *args, **SLURM)
    expected = shlex.join([*STEP, "--config.train.batch_size=8"])
    assert (status, machine.calls(), dry) == (0, [expected], f"{expected}\n"), err
    machine.put("runs", "exit 3")
    assert machine.run("slurm.sbatch", *args, **SLURM)[0] == 3
    assert not any(call.startswith("scontrol") for call in machine.calls())


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_slurm_queues_a_job_out_of_time_again_and_no_other(machine, number, tmp_path):
    # SLURM runs a copy of the script, elsewhere; the folder stays the one of sbatch.
    copy = shutil.copy(machine.root / "launch/slurm.sbatch", tmp_path / "slurm_script")
    machine.put("runs", "until never")
    process = machine.popen(copy, *RUN, **SLURM)
    python = int(machine.wait_for("running_here").read_text())
    process.send_signal(number)
    if number == signal.SIGTERM:  # preemption, scancel: SLURM tells the step, and queues or not
        time.sleep(0.1)
        os.kill(python, signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "saved" in out, err
    again = ["scancel --signal=TERM 77", "scontrol requeue 77"]
    assert machine.calls()[1:] == (again if number == signal.SIGUSR1 else [])


def test_sbatch_reads_its_lines(repo_root):
    text = (repo_root / "launch/slurm.sbatch").read_text()
    # sbatch reads up to the first command.
    head = re.split(r"^[^#\n]", text, maxsplit=1, flags=re.MULTILINE)[0]
    flags = re.findall(r"^#SBATCH (.*)$", head, re.MULTILINE)
    assert flags == re.findall(r"#SBATCH (.*)", text)
    assert {"--signal=B:USR1@180", "--requeue", "--ntasks-per-node=1"} <= set(flags)


@pytest.mark.slow
def test_jax_understands_what_the_scripts_set():
    """JAX, started as by srun, takes all GPUs of the node, and XLA knows its flags."""
    code = """
import jax
from jax._src import xla_bridge
jax.distributed.initialize()
print(jax.process_count(), jax.local_device_count(), xla_bridge.CUDA_VISIBLE_DEVICES.value)
"""
    slurm = {
        "SLURM_JOB_ID": "77",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "JAX_COORDINATOR_PORT": str(20_000 + os.getpid() % 10_000),
        "JAX_PLATFORMS": "cpu",
    }
    given = dict(word.split("=", 1) for word in (*ON_GPUS[1:], STEP[STEP.index("python") - 1]))
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | given | slurm,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert out.stdout == "1 1 0,1,2,3\n", out.stderr
