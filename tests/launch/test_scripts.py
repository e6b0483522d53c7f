"""The scripts for GPUs, SLURM and the tables, the Dockerfile, and what all scripts have."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from lts_jax import paper

SCRIPTS = ("gpu.sh", "reproduce.sh", "slurm.sbatch", "tpu_vm.sh", "tpu_worker.sh")
ON_GPUS = (
    *("env", "JAX_PLATFORMS=cuda", "XLA_PYTHON_CLIENT_MEM_FRACTION=0.9"),
    "XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true",
)
RUN = ("--config", "configs/refcoco.py", "--workdir", "runs/a b")
MAIN = ("-m", "lts_jax.main", *RUN)
STEP = (
    *("srun", "--ntasks-per-node=1", "--cpus-per-task=8", "--kill-on-bad-exit=1", "--label"),
    *(*ON_GPUS, "JAX_LOCAL_DEVICE_IDS=0,1,2,3", "python", *MAIN, "--distributed=auto"),
)
SLURM = {"SLURM_JOB_ID": "77", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "8"}


def tool(name):
    """A linter that pip has put beside this Python, or another one."""
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
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())
    (extra,) = re.findall(r"pip install .*'\.\[(\w+)\]'", "\n".join(lines))
    assert extra in project["project"]["optional-dependencies"]
    (entry,) = re.findall(r'ENTRYPOINT \["(.*)"\]', "\n".join(lines))
    assert os.access(repo_root / entry, os.X_OK)
    # What the build needs before it can install.
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert needed <= set(copied)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_help_and_knows_its_flags(machine, script):
    status, out, err = machine.run(script, "--help")
    assert (status, err) == (0, "") and "--dry-run" in out and f"launch/{script}" in out
    named = {flag for flag in re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE)} - {"--"}
    for flag in named - {"--dry-run", "--spot", "--yes"}:
        status, _, err = machine.run(script, flag)
        assert (status, err) == (1, f"error: {flag} needs a value\n")
    status, _, err = machine.run(script, "--confg=x")
    assert status == 1 and err.startswith("error: unknown argument --confg; --help lists them")
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


@pytest.mark.parametrize("script", ["gpu.sh", "slurm.sbatch"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--workdir=gs://b/r", "--config=x"), "--workdir gs://b/r is no folder of this machine"),
        (("--data=gs://b/r", "--config=x"), "--data gs://b/r is no folder of this machine"),
        ((), "--config: give the one to train"),
        (("eval",), "--workdir: give the run to evaluate"),
    ],
)
def test_bad_arguments(machine, script, args, said):
    status, _, err = machine.run(script, *args)
    assert status == 1 and err.startswith(f"error: {said}") and machine.calls() == []


def test_gpu(machine):
    args = (*RUN, "--data=d", "--gpus=0,1", "--", "--config.seed=2")
    status, out, err = machine.run("gpu.sh", *args)
    words = (*MAIN, "--config.data.dir=d", "--config.seed=2")
    assert (status, machine.calls()) == (0, [shlex.join(["python", *words])]), err
    assert "JAX_PLATFORMS cuda" in out
    _, dry, _ = machine.run("gpu.sh", "--dry-run", *args)
    assert dry == shlex.join([*ON_GPUS, "CUDA_VISIBLE_DEVICES=0,1", "python", *words]) + "\n"
    machine.put("runs", "exit 3")
    status, out, _ = machine.run("gpu.sh", *RUN, JAX_PLATFORMS="rocm")
    assert status == 3 and "JAX_PLATFORMS rocm" in out


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
    given = dict(word.split("=", 1) for word in (*ON_GPUS[2:], STEP[STEP.index("python") - 1]))
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | given | slurm,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert out.stdout == "1 1 0,1,2,3\n", out.stderr


def tables_call(name, table, *overrides, seeds=1):
    return shlex.join(
        [
            *("python", "-m", "lts_jax.tables", "--config", f"configs/{name}.py"),
            *("--table", str(table), "--seeds", str(seeds), "--workdir", f"runs/tables/{name}"),
            *("--config.data.dir=data", *overrides),
        ]
    )


def build_call(dataset):
    return f"python -m tfds_refcoco build --dataset {dataset} --raw 'my raw' --out data"


def test_reproduce_makes_every_table_of_the_paper(machine):
    weights, vectors = machine.folder / "d.weights", machine.folder / "my glove.zip"
    weights.write_text("x")
    vectors.write_text("x")
    overrides = [
        f"--config.model.backbone_weights={weights}",
        f"--config.model.word_vectors={vectors}",
        "--config.model.dtype=bfloat16",
    ]
    args = ("--raw=my raw", f"--backbone={weights}", "--vectors", str(vectors))
    args = (*args, "--", overrides[-1])
    status, out, err = machine.run("reproduce.sh", *args)
    expected = []
    for dataset, name in paper.FAMILIES.items():
        expected.append(build_call(dataset))
        for table, rows in paper.TABLES.items():
            if any(name in families for families in rows.values()):
                expected.append(tables_call(name, table, *overrides))
    assert (status, err, machine.calls()) == (0, "", expected)
    written = re.findall(r"^wrote (.*)$", out, re.MULTILINE)
    assert len(written) == sum("lts_jax.tables" in call for call in expected) == 12
    assert written[-1] == "runs/tables/refcocog/table7.md"

    _, dry, _ = machine.run("reproduce.sh", "--dry-run", *args)
    assert dry.replace(shlex.join(ON_GPUS) + " ", "").splitlines() == expected


def test_reproduce_goes_on_behind_a_table_that_fails(machine):
    machine.put("runs", "exit 1", "exit 0")
    status, out, err = machine.run("reproduce.sh", "--sets=refcocog", "--tables=1,2,4", "--seeds=3")
    calls = [tables_call("refcocog", table, seeds=3) for table in (1, 4)]
    assert (status, machine.calls()) == (1, calls)
    assert "warning: without --backbone and --vectors" in err
    assert "error: failed, see above: table 1 of refcocog" in err
    assert "wrote runs/tables/refcocog/table4.md" in out


def test_reproduce_does_not_go_on_when_told_to_stop(machine):
    machine.put("runs", "until never")
    process = machine.popen("reproduce.sh", "--sets=refcoco")
    machine.wait_for("running_here")
    process.terminate()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "saved" in out
    assert err.endswith("error: stopped; the same command goes on\n")
    assert len(machine.calls()) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--sets=refcoc",), "--sets: refcoc is none of refcoco, refcocoplus, refcocog"),
        (("--tables=1,3",), "--tables: 3 is none of 1, 2, 4, 5, 6, 7"),
        (("--vectors=gone.zip",), "gone.zip: there is no such file"),
        (("--raw=gs://b/raw",), "--raw gs://b/raw is no folder of this machine"),
    ],
)
def test_reproduce_refuses(machine, args, said):
    status, _, err = machine.run("reproduce.sh", *args)
    assert status == 1 and f"error: {said}" in err and machine.calls() == []
