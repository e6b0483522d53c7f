"""An error in one process is raised on all processes, so that none waits for another."""

import os
import sys
from pathlib import Path

import pytest

from tests.lts_jax.helpers.recorded import as_flags, on_both


def on_these(repo_root, command):
    """Runs processes with a timeout far below JAX's."""
    flags = {"PYTHONPATH": f"{repo_root}:{Path(__file__).parent}"}
    return on_both(repo_root, command, lambda *_: flags, timeout=90)


@pytest.mark.slow
def test_errors_reach_all_processes(repo_root, tmp_path):
    status, outputs = on_these(
        repo_root, lambda k, port: [__file__, f"localhost:{port}", str(k), str(tmp_path)]
    )
    assert status == [0, 0], outputs
    for text in outputs:
        assert "checkpoint_manager.py" not in text  # Orbax's warnings
        assert "different:   seed: 0 in process 0, 1 in process 1" in text
        assert "shared: fine" in text
        assert "not shared: " in text and "process 1 cannot see the files of process 0" in text
        assert "no folder: --workdir /dev/null/x is not writable (Not a directory)" in text
        assert "whole: 7" in text
        assert "damaged: checkpoint " in text and "checkpoints/7 cannot be read" in text
    assert sorted(p.name for p in (tmp_path / "same").iterdir()) == ["checkpoints"]


@pytest.mark.slow
@pytest.mark.parametrize("field", ["train.learning_rate", "workdir"])
def test_a_command_that_differs_ends_on_both(repo_root, tiny_config_factory, tmp_path, field):
    config = tiny_config_factory()

    def command(k, port):
        differing = f"--config.{field}=0.{k + 1}"
        if field == "workdir":
            differing = "--workdir=/dev/null/x" if k == 0 else f"--workdir={tmp_path}"
        return [
            *("-m", "lts_jax.main", "--config=configs/shapes.py", *as_flags(config)),
            *(f"--workdir={tmp_path}/run", f"--coordinator=localhost:{port}"),
            *("--num_processes=2", f"--process_id={k}", differing),
        ]

    status, outputs = on_these(repo_root, command)
    assert status == [1, 1], outputs
    wanted = {
        "workdir": "error: --workdir /dev/null/x is not writable",
        "train.learning_rate": "config.train.learning_rate: 0.1 in process 0, 0.2 in process 1",
    }[field]
    assert all(wanted in text for text in outputs), outputs
    assert not (tmp_path / "run" / "run.json").exists()


def child(address, process, folder):
    """Triggers the errors one after another and continues."""
    import grain
    import jax
    import jax.numpy as jnp

    from lts_jax.distributed import processes
    from lts_jax.distributed.mesh import make_mesh, over_shards, replicated
    from lts_jax.errors import ConfigError
    from lts_jax.io.files import only_run_in
    from lts_jax.state.checkpoints import Checkpoints
    from lts_jax.state.train_state import TrainState

    processes.join_processes(address, 2, process)

    def report(name, act):
        try:
            print(f"{name}: {act()}", flush=True)
        except ConfigError as error:
            print(f"{name}: " + " ".join(str(error).splitlines()[-2:]), flush=True)

    def differing():
        try:
            processes.check_same_on_all({"seed": process, "batch": 8})
        except ConfigError as error:
            raise ConfigError(str(error).splitlines()[1]) from None

    def enter(path):
        with processes.in_first_process(only_run_in(path)):
            return "entered"

    report("different", differing)
    same, own = folder / "same", folder / f"own{process}"
    for path in (same, own):
        path.mkdir(exist_ok=True)
    report("shared", lambda: processes.check_shared(same) or "fine")
    report("not shared", lambda: processes.check_shared(own))
    report("no folder", lambda: enter(Path("/dev/null/x")))

    mesh = make_mesh(shards=2)
    place = over_shards({"w": jax.ShapeDtypeStruct((512, 2048), jnp.float32)}, mesh)["w"]
    copied = replicated(mesh)
    state = jax.jit(
        lambda: TrainState(
            jnp.int32(7), {"w": jax.random.normal(jax.random.key(0), (512, 2048))}, {}, ()
        ),
        out_shardings=TrainState(copied, {"w": place}, {}, ()),
    )()
    run = {"config": {}, "data": {}, "weights": {}}
    iterator = iter(grain.MapDataset.range(9).to_iter_dataset())
    with Checkpoints(same) as checkpoints:
        checkpoints.save(7, state, iterator, run, ["a"])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    with Checkpoints(same) as checkpoints:
        report("whole", lambda: int(checkpoints.restore_state(7, abstract).step))
    if process == 0:  # only the other process reads these
        theirs = same / "checkpoints" / "7" / "state" / "ocdbt.process_1" / "d"
        largest = max(theirs.iterdir(), key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)
    processes.first_message("")
    with Checkpoints(same) as checkpoints:
        report("damaged", lambda: checkpoints.restore_state(7, abstract))


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
