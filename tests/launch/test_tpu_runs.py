"""Runs on a TPU VM; what tpu_vm.sh sends to the workers really runs there."""

import os
import re
import shlex
import shutil
import signal
import time

import pytest

from tests.launch.expected import (
    AT,
    BUCKET,
    CREATE,
    DESCRIBE,
    LOG,
    LOOK,
    NASTY,
    REVISION,
    TPU,
    TRAIN_ON_TPU,
    TRAIN_ON_WORKER,
    WORKER_SETUP,
    WORKER_START,
    printed,
    setup_calls,
    start_call,
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("setsid") and shutil.which("flock")),
    reason="no setsid or flock, which the workers' Linux has",
)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_from_nothing_to_the_end_of_the_run(machine, workers):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("workers", str(workers))
    args = (*TRAIN_ON_TPU, "--", NASTY)
    status, out, err = machine.run("tpu_vm.sh", *args)
    assert status == 0, err
    expected = [
        *(BUCKET, DESCRIBE, CREATE, *setup_calls(machine.folder), start_call(NASTY)),
        *(DESCRIBE, LOOK, LOG),
    ]
    assert machine.calls() == expected
    for k in range(workers):
        run = shlex.join(["python", *TRAIN_ON_WORKER, NASTY])
        assert machine.calls(f"worker{k}") == [*WORKER_SETUP, *WORKER_START, run]
        assert (machine.folder / f"worker{k}/lts_jax/data/set").read_text() == "records"
    assert "the run has finished" in out and f"run 0 of {REVISION}" in out
    assert f"run 0 of {REVISION} with glibc.malloc.hugetlb=1\n" in out
    configs = machine.folder / "worker0/lts_jax/lts_jax/configs"
    assert (str(configs.readlink()), (configs / "refcoco.py").is_file()) == ("../configs", True)

    machine.forget()
    status, dry, err = machine.run("tpu_vm.sh", "--dry-run", *args)
    assert (status, printed(dry), machine.calls()) == (0, expected, []), err


@pytest.mark.slow
def test_a_preempted_vm_is_made_anew_and_the_run_goes_on(machine):
    machine.put("states", "NOT_FOUND", "READY", "PREEMPTED", "NOT_FOUND", "CREATING", "READY")
    machine.put("runs", "until never", "exit 0")
    args = (*TRAIN_ON_TPU, "--spot", "--project=p 1")
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
    assert runs == [shlex.join(["python", *TRAIN_ON_WORKER])] * 2
    assert "PREEMPTED" in out and "retrying in 0.2 s" in out


@pytest.mark.slow
def test_no_capacity_and_a_vm_that_does_not_answer_yet(machine):
    """From the first time on, it is tried again; what no other try mends is not."""
    machine.put("states", "NOT_FOUND", "NOT_FOUND", "CREATING", "READY")
    machine.put("fail", "create", "scp")
    status, out, err = machine.run("tpu_vm.sh", *TRAIN_ON_TPU)
    assert status == 0, err
    verbs = [re.sub(r" .*", "", call.removeprefix(TPU + " ")) for call in machine.calls()[1:]]
    assert verbs == [
        *("describe", "create", "describe", "create", "scp", "describe", "describe", "ssh"),
        *("scp", "ssh", "ssh", "describe", "ssh", "ssh"),
    ]
    assert out.count("retrying in 0.2 s") == 3 and "in state CREATING" in out

    machine.put("states", "NOT_FOUND")
    machine.put("fail", "create")
    machine.put("refusal", "INVALID_ARGUMENT: no such type")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN_ON_TPU)
    assert (
        status == 1
        and "no such type" in err
        and "lts-jax cannot be created; see the error above" in err
    )


@pytest.mark.slow
def test_the_run_needs_no_connection(machine):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("runs", "until done")
    process = machine.popen("tpu_vm.sh", *TRAIN_ON_TPU)
    pid = int(machine.wait_for("running_worker0").read_text())
    while machine.calls().count(DESCRIBE) < 2:  # it watches
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert (
        process.returncode == 1
        and "the run continues. Rerun the same command to watch it again" in err
    )
    os.kill(pid, 0)

    machine.forget()
    process = machine.popen("tpu_vm.sh", *TRAIN_ON_TPU)
    while machine.calls().count(DESCRIBE) < 3:
        time.sleep(0.02)
    machine.put("fail", "ssh")
    while "ssh" in (machine.folder / "fail").read_text():
        time.sleep(0.02)
    machine.put("done", "x")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "already running" in out and "unreachable" in out
    assert sum(call.startswith("python") for call in machine.calls("worker0")) == 0

    status, out, err = machine.run("tpu_vm.sh", "status")
    assert status == 0, err
    assert out.startswith("lts-jax in us-central2-b: READY  exited 0 \nJAX_PLATFORMS")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_a_reboot_ended_is_started_again(machine, number):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("workers", "2")
    machine.put("runs", "until done")
    process = machine.popen("tpu_vm.sh", *TRAIN_ON_TPU)
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
        assert runs == [shlex.join(["python", *TRAIN_ON_WORKER])] * 2
    log = (machine.folder / "worker0/lts_jax/.launch/log.txt").read_text()
    assert ("saved" in log) == (number == signal.SIGTERM)


@pytest.mark.slow
def test_a_run_that_fails_is_shown(machine):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("runs", "exit 1")
    status, out, err = machine.run("tpu_vm.sh", *TRAIN_ON_TPU)
    assert status == 1
    assert "JAX_PLATFORMS None run 0" in out
    assert "error: the run failed; see the log above. Rerun the same command to resume" in err
    assert sum(call.startswith("python") for call in machine.calls("worker0")) == 1


@pytest.mark.slow
def test_stop_and_another_run(machine):
    machine.put("states", "NOT_FOUND", "READY")
    machine.put("runs", "until never")
    process = machine.popen("tpu_vm.sh", *TRAIN_ON_TPU)
    machine.wait_for("running_worker0")
    status, _, err = machine.run("tpu_vm.sh", *TRAIN_ON_TPU, "--", "--config.seed=1")
    assert status == 1 and "error: another run is active on this worker: train --config" in err
    mark = machine.folder / "worker0/lts_jax/configs/mark"
    mark.write_text("x")
    status, _, err = machine.run("tpu_vm.sh", "setup")
    assert status == 1 and "error: a run is active on this worker: stop it first" in err
    assert mark.exists()
    status, _, err = machine.run("tpu_vm.sh", "stop")
    assert status == 0, err
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "the run was stopped; rerun the same command to resume" in out
    assert "saved" in (machine.folder / "worker0/lts_jax/.launch/log.txt").read_text()
    status, _, err = machine.run("tpu_vm.sh", "stop")
    assert status == 1 and "error: no run is active on this worker" in err
    assert machine.run("tpu_vm.sh", "setup")[0] == 0
    assert not mark.exists()


@pytest.mark.slow
def test_eval(machine):
    machine.put("states", "READY")
    for verb in ("create", "setup"):
        assert machine.run("tpu_vm.sh", verb)[0] == 0
    machine.forget()
    args = ("eval", "--workdir=gs://b/runs/r", "--poll=0.2", "--", "--checkpoint=x y")
    assert machine.run("tpu_vm.sh", *args)[0] == 0
    words = "-m lts_jax eval --workdir ../buckets/b/runs/r --distributed=auto"
    assert machine.calls("worker0")[-1] == f"python {words} '--checkpoint=x y'"
    assert not any("rsync" in call for call in machine.calls("worker0"))
