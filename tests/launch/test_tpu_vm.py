"""tpu_vm.sh from creation to deletion; what it sends to the workers is run there for real."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not (shutil.which("setsid") and shutil.which("flock")),
    reason="no setsid or flock, which the workers' Linux has",
)

TPU = "gcloud compute tpus tpu-vm"
AT = "--zone=us-central2-b"
CODE = "lts_jax tfds_refcoco configs launch"
ROOT = Path(__file__).parent.parent.parent


def revision():
    """Of the code that is sent; unknown where this is no checkout."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD"]).returncode
    return head.stdout.strip() + ("-dirty" if changed else "")


REVISION = revision()
SETUP = shlex.quote(
    "--command=mkdir -p lts_jax/.launch && cd lts_jax && "
    "{ flock --shared --nonblock .launch/lock true || "
    "{ echo 'error: a run is at work here: stop it first' >&2; exit 1; }; } && "
    f"rm -rf {CODE} && tar -xzf ../lts_jax.tgz && "
    f"echo {REVISION} >.launch/revision && launch/tpu_worker.sh setup"
)
LOOK = (
    f"{TPU} ssh lts-jax --worker=all '--command=if [ -e lts_jax/launch/tpu_worker.sh ]; then "
    f"cd lts_jax && launch/tpu_worker.sh state; else echo state new; fi' {AT}"
)
DESCRIBE = f"{TPU} describe lts-jax '--format=value(state)' --quiet {AT}"
LAYOUT = "'--format=value(hierarchicalNamespace.enabled)' --raw"
BUCKET = f"gcloud storage buckets describe gs://b {LAYOUT}"
LOG = f"{TPU} ssh lts-jax --worker=0 '--command=cd lts_jax && launch/tpu_worker.sh log' {AT}"
CREATE = f"{TPU} create lts-jax --accelerator-type=v4-8 --version=tpu-ubuntu2204-base {AT}"
NASTY = """--config.data.train_images=it's "a" $HOME\\ *;"""
TRAIN = (
    *("train", "--config", "configs/refcoco.py:star", "--data=gs://b/data/"),
    *("--workdir", "gs://b/runs/my run", "--poll=0.2"),
)
MAIN = (
    *("-m", "lts_jax.main", "--config", "configs/refcoco.py:star"),
    *("--workdir", "../buckets/b/runs/my run", "--distributed=auto"),
)


def setup_calls(folder):
    archive = f"{folder}/lts_jax-lts-jax.tgz"
    return [
        f"{TPU} scp {archive} lts-jax:lts_jax.tgz --worker=all {AT}",
        f"{TPU} ssh lts-jax --worker=all {SETUP} {AT}",
    ]


def start_call(*more):
    words = ["launch/tpu_worker.sh", "start", "--data", "gs://b/data", "--bucket", "b", "--"]
    command = f"cd lts_jax && {shlex.join([*words, *MAIN[2:], *more])}"
    return f"{TPU} ssh lts-jax --worker=all {shlex.quote('--command=' + command)} {AT}"


WORKER_SETUP = [
    "curl -LsSf -o .launch/uv.sh https://astral.sh/uv/install.sh",
    "uv venv --allow-existing --python 3.12 .venv",
    "uv pip install --python .venv/bin/python '.[tpu]'",
]
PACKAGE = "gcsfuse_3.8.0_amd64.deb"
WORKER_START = [
    "gcloud storage rsync gs://b/data data --recursive",
    f"curl -LsSf -o .launch/{PACKAGE} "
    f"https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v3.8.0/{PACKAGE}",
    "sudo apt-get -o DPkg::Lock::Timeout=600 update",
    f"sudo apt-get -o DPkg::Lock::Timeout=600 install --yes ./.launch/{PACKAGE}",
    "mountpoint -q ../buckets/b",
    "gcsfuse --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 b ../buckets/b",
]


def printed(out):
    """A dry run's commands but the local tar, of which no stand-in knows."""
    return [line for line in out.splitlines() if not line.startswith("env COPYFILE")]


@pytest.mark.parametrize("workers", [1, 2])
def test_from_nothing_to_the_end_of_the_run(machine, workers):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("workers", str(workers))
    args = (*TRAIN, "--", NASTY)
    status, out, err = machine.run("tpu_vm.sh", *args)
    assert status == 0, err
    expected = [
        *(BUCKET, DESCRIBE, CREATE, *setup_calls(machine.folder), start_call(NASTY)),
        *(DESCRIBE, LOOK, LOG),
    ]
    assert machine.calls() == expected
    for k in range(workers):
        run = shlex.join(["python", *MAIN, NASTY])
        assert machine.calls(f"worker{k}") == [*WORKER_SETUP, *WORKER_START, run]
        assert (machine.folder / f"worker{k}/lts_jax/data/set").read_text() == "records"
    assert "lts-jax has done its work" in out and f"run 0 of {REVISION}" in out

    machine.forget()
    status, dry, err = machine.run("tpu_vm.sh", "--dry-run", *args)
    assert (status, printed(dry), machine.calls()) == (0, expected, []), err


def test_a_preempted_vm_is_made_anew_and_the_run_goes_on(machine):
    machine.put("states", "NOT_FOUND", "READY", "PREEMPTED", "NOT_FOUND", "CREATING", "READY")
    machine.put("runs", "until never", "exit 0")
    args = (*TRAIN, "--spot", "--project=p 1")
    process = machine.popen("tpu_vm.sh", *args)
    machine.wait_for("running_worker0")
    machine.put("fail", "create")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    verbs = [re.sub(r" .*", "", call.removeprefix(TPU + " ")) for call in machine.calls()[1:]]
    first = verbs.index("delete")
    assert verbs[first:] == [
        *("delete", "create", "describe", "create"),
        *("describe", "describe", "ssh", "scp", "ssh", "describe", "ssh", "ssh"),
        *("describe", "ssh", "ssh"),
    ]
    creations = [call for call in machine.calls() if " create " in call]
    assert creations == [f"{CREATE.removesuffix(AT)}--spot {AT} '--project=p 1'"] * 3
    starts = [call for call in machine.calls() if "worker.sh start" in call]
    assert starts == [f"{start_call()} '--project=p 1'"] * 2
    runs = [call for call in machine.calls("worker0") if call.startswith("python")]
    assert runs == [shlex.join(["python", *MAIN])] * 2
    assert "PREEMPTED" in out and "trying again in 0.2 s" in out


def test_no_capacity_and_a_vm_that_does_not_answer_yet(machine):
    """From the first time on, it is tried again; what no other try mends is not."""
    machine.put("states", "NOT_FOUND", "NOT_FOUND", "CREATING", "READY")
    machine.put("fail", "create", "scp")
    status, out, err = machine.run("tpu_vm.sh", *TRAIN)
    assert status == 0, err
    verbs = [re.sub(r" .*", "", call.removeprefix(TPU + " ")) for call in machine.calls()[1:]]
    assert verbs == [
        *("describe", "create", "describe", "create", "scp", "describe", "describe", "ssh"),
        *("scp", "ssh", "ssh", "describe", "ssh", "ssh"),
    ]
    assert out.count("trying again in 0.2 s") == 3 and "in state CREATING" in out

    machine.put("states", "NOT_FOUND")
    machine.put("fail", "create")
    machine.put("refusal", "INVALID_ARGUMENT: no such type")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN)
    assert status == 1 and "no such type" in err and "lts-jax cannot be created, see above" in err


def test_the_run_needs_no_connection(machine):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("runs", "until done")
    process = machine.popen("tpu_vm.sh", *TRAIN)
    pid = int(machine.wait_for("running_worker0").read_text())
    while machine.calls().count(DESCRIBE) < 2:  # it watches
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "the run goes on, and the same command watches on" in err
    os.kill(pid, 0)

    machine.forget()
    process = machine.popen("tpu_vm.sh", *TRAIN)
    while machine.calls().count(DESCRIBE) < 3:
        time.sleep(0.02)
    machine.put("fail", "ssh")
    while "ssh" in (machine.folder / "fail").read_text():
        time.sleep(0.02)
    machine.put("done", "x")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "already at work" in out and "unreachable" in out
    assert sum(call.startswith("python") for call in machine.calls("worker0")) == 0

    status, out, err = machine.run("tpu_vm.sh", "status")
    assert status == 0, err
    assert out.startswith("lts-jax in us-central2-b: READY  exited 0 \nJAX_PLATFORMS")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_a_reboot_ended_is_started_again(machine, number):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("workers", "2")
    machine.put("runs", "until done")
    process = machine.popen("tpu_vm.sh", *TRAIN)
    for k in range(2):
        machine.wait_for(f"running_worker{k}").unlink()
        os.killpg(int((machine.folder / f"worker{k}/lts_jax/.launch/pid").read_text()), number)
    for k in range(2):
        machine.wait_for(f"running_worker{k}")
    machine.put("done", "x")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    for k in range(2):
        runs = [call for call in machine.calls(f"worker{k}") if call.startswith("python")]
        assert runs == [shlex.join(["python", *MAIN])] * 2
    log = (machine.folder / "worker0/lts_jax/.launch/log.txt").read_text()
    assert ("saved" in log) == (number == signal.SIGTERM)


def test_a_run_that_fails_is_shown(machine):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("runs", "exit 1")
    status, out, err = machine.run("tpu_vm.sh", *TRAIN)
    assert status == 1
    assert "JAX_PLATFORMS None run 0" in out
    assert "error: the run has failed, see above; the same command goes on" in err
    assert sum(call.startswith("python") for call in machine.calls("worker0")) == 1


def test_stop_and_another_run(machine):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("runs", "until never")
    process = machine.popen("tpu_vm.sh", *TRAIN)
    machine.wait_for("running_worker0")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN, "--", "--config.seed=1")
    assert status == 1 and "error: another run is at work here: --config" in err
    mark = machine.folder / "worker0/lts_jax/configs/mark"
    mark.write_text("x")
    status, _, err = machine.run("tpu_vm.sh", "setup")
    assert status == 1 and "error: a run is at work here: stop it first" in err
    assert mark.exists()
    status, _, err = machine.run("tpu_vm.sh", "stop")
    assert status == 0, err
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "the run was stopped; the same command goes on" in out
    assert "saved" in (machine.folder / "worker0/lts_jax/.launch/log.txt").read_text()
    status, _, err = machine.run("tpu_vm.sh", "stop")
    assert status == 1 and "error: no run is at work here" in err
    assert machine.run("tpu_vm.sh", "setup")[0] == 0
    assert not mark.exists()


def test_eval(machine):
    machine.put("states", "READY")
    for verb in ("create", "setup"):
        assert machine.run("tpu_vm.sh", verb)[0] == 0
    machine.forget()
    args = ("eval", "--workdir=gs://b/runs/r", "--poll=0.2", "--", "--checkpoint=x y")
    assert machine.run("tpu_vm.sh", *args)[0] == 0
    words = "-m lts_jax.main --mode=eval --workdir ../buckets/b/runs/r --distributed=auto"
    assert machine.calls("worker0")[-1] == f"python {words} '--checkpoint=x y'"
    assert not any("rsync" in call for call in machine.calls("worker0"))


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


def test_a_deleted_vm_is_not_made_anew(machine):
    machine.put("states", "NOT_FOUND", "READY", "NOT_FOUND")
    machine.put("runs", "until never")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN)
    assert status == 1 and "lts-jax was deleted; the same command makes it anew" in err
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
        ((), "give create, setup, train, eval, status, stop or delete"),
        (("tain",), "unknown argument tain; --help lists them"),
        (("train", "--zone"), "--zone needs a value"),
        (("train", "--zone", "--spot"), "--zone needs a value"),
        (("train", "--workdir=runs/a", "--config=configs/shapes.py"), "--workdir: give a folder"),
        (("train", "--workdir=gs://b", "--config=configs/shapes.py"), "--workdir: give a folder"),
        (("train", "--workdir=gs://b/r", "--config=configs/shape.py"), "configs/shape.py is no"),
        (("train", "--workdir=gs://b/r", "--config=setup.py"), "setup.py is no file in"),
        (("train", "--workdir=gs://b/r"), "--config: give the one to train"),
        (("eval", "--workdir=gs://b/r", "--data=data"), "--data: give a folder in a bucket"),
        (("create", "--accelerator-type=v9-8"), "--accelerator-type v9-8: give its --version too"),
    ],
)
def test_bad_arguments(machine, args, said):
    status, _, err = machine.run("tpu_vm.sh", *args)
    assert status == 1 and err.startswith("error: ") and said in err
    assert machine.calls() == []


def test_a_flat_bucket_is_refused(machine):
    machine.put("buckets/b/flat")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN)
    assert status == 1 and "gs://b has no hierarchical namespace, see docs/launch.md" in err
    assert machine.calls() == [BUCKET]


def test_gcloud_itself_knows_the_commands(machine, tmp_path):
    """Its linter parses the words as a call would, and asks nobody."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        pytest.skip("no gcloud here")
    lines = printed(machine.run("tpu_vm.sh", "--dry-run", "--spot", "--project=p", *TRAIN)[1])
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
