"""The same run on one device, many devices, two processes, with microbatches, and sharded.

The order of sums differs, so float32 results differ in the last digits. A few of half a million
activations per step fall on the other side of LeakyReLU's kink, and Adam amplifies the differences:
with a learning rate of 1e-3, losses differ by up to 3e-3 after 20 steps; with a smooth activation
by at most 2e-6. Therefore these tests use a small learning rate.
"""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lts_jax.data.vocabulary import Vocabulary
from lts_jax.distributed.mesh import make_mesh
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.evaluation.metrics import METRIC_NAMES
from lts_jax.evaluation.run import evaluate
from lts_jax.experiment.experiment import Experiment
from lts_jax.models import losses
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.training import loop
from tests.lts_jax.helpers.oracles import relative_error
from tests.lts_jax.helpers.recorded import as_flags, on_two_processes, record

STEPS, MIDDLE = 20, 10
CURVE = {"threshold": [0.25], "oiou": [-1.0]}
# Never selected as best.
NOT_EVALUATED = dict.fromkeys(METRIC_NAMES, -1.0) | {"threshold_curve": CURVE}

pytestmark = pytest.mark.eight_devices


class Runs:
    """Creates runs; each consists of a workdir and its batches."""

    def __init__(self, folder, make_config, repo_root):
        self.folder, self.make_config, self.repo_root = folder, make_config, repo_root
        config = make_config()
        self.split = Experiment.from_config(config).train_split
        self.vocabulary = Vocabulary.build(self.split.index.text)

    def experiment(self, config, mesh):
        return Experiment(config, mesh, self.vocabulary.words)

    def config(self, n_steps=STEPS, **fields):
        config = self.make_config()
        per_epoch = len(self.split.index.text) / config.train.batch_size
        config.model.backbone_stages = (0, 0, 0, 0, 0)  # compiles in half the time
        config.model.neck = False
        config.model.segment = False
        config.eval.update(batch_size=4, splits=("val",))
        config.train.learning_rate = 3e-5
        config.train.epochs = (n_steps - 0.5) / per_epoch
        config.train.drop_epochs = (15 / per_epoch,)
        config.eval.every_epochs = MIDDLE / per_epoch
        config.train.update(fields)
        return config

    def train(self, name, n_devices, n_steps=STEPS, start=None, **fields):
        """Trains on some of the simulated devices, resuming from a copy of workdir `start`."""
        workdir, seen = self.folder / name, []
        if start:
            shutil.copytree(start, workdir)
        devices = jax.devices()[:n_devices]
        with pytest.MonkeyPatch.context() as patch:
            record(patch.setattr, seen)
            patch.setattr(jax, "devices", lambda: devices)
            patch.setattr(jax, "local_devices", lambda: devices)
            patch.setattr(Evaluator, "scores", lambda *_: NOT_EVALUATED)  # not tested here
            loop.train(self.config(n_steps, **fields), workdir)
        return workdir, seen

    @functools.cached_property
    def first_params(self):
        state = self.experiment(self.config(), make_mesh(jax.devices()[:1])).initial_state()
        return jax.device_get(state.params)

    def moved(self, workdir):
        """Returns the change of each parameter over the run, as one vector."""
        with Checkpoints(workdir) as checkpoints:
            params = checkpoints.read_variables(STEPS)["params"]
        both = jax.tree.map(lambda new, old: np.ravel(new - old), params, self.first_params)
        return np.concatenate(jax.tree.leaves(both))

    def command(self, name, environment, devices=1, start=None, n_steps=STEPS, **fields):
        """Trains with the command on two processes, including evaluations."""
        workdir = self.folder / name
        if start:
            shutil.copytree(start, workdir)
        config = self.config(n_steps, **fields)
        outputs, seen = on_two_processes(
            self.repo_root,
            self.folder / f"{name}_seen",
            [
                "--config=configs/shapes.py",
                f"--workdir={workdir}",
                "--distributed=auto",
                *as_flags(config),
            ],
            environment,
            devices,
        )
        return workdir, outputs, seen


def by_environment(process, port):
    return {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(process),
    }


def by_slurm(process, port):
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
        "JAX_COORDINATOR_PORT": str(port),
    }


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses_of(workdir):
    losses = [(line["step"], line["train/loss"]) for line in lines(workdir) if "train/loss" in line]
    assert [step for step, _ in losses] == list(range(1, len(losses) + 1))
    return np.array([loss for _, loss in losses])


def ids_of(seen):
    return [batch["sent_id"].tolist() for batch in seen]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_config_factory, repo_root):
    return Runs(tmp_path_factory.mktemp("many"), tiny_config_factory, repo_root)


@pytest.fixture(scope="module")
def one(runs):
    """The run on one device: losses and batches."""
    workdir, seen = runs.train("one", 1)
    assert len(seen) == STEPS and len(set(map(str, ids_of(seen)))) == STEPS
    return losses_of(workdir), seen


def assert_same(runs, workdir, one):
    """Compares the losses by step and the final changes of the parameters."""
    np.testing.assert_allclose(losses_of(workdir), one[0], rtol=1e-4)
    ours, theirs = runs.moved(workdir), runs.moved(runs.folder / "one")
    assert np.linalg.norm(theirs) > STEPS / 2 * 1e-5 * len(theirs) ** 0.5
    assert relative_error(ours, theirs) < 0.03


@pytest.fixture(scope="module")
def begun_on_eight(runs):
    workdir, seen = runs.train("begun", 8, MIDDLE)
    assert len(seen) == MIDDLE
    return workdir


@pytest.fixture(scope="module")
def two_processes(runs):
    return runs.command("two_processes", by_environment)


def test_eight_devices(runs, one):
    workdir, seen = runs.train("eight", 8)
    assert ids_of(seen) == ids_of(one[1])
    assert_same(runs, workdir, one)


def test_two_processes(runs, one, two_processes):
    workdir, outputs, ids = two_processes
    assert ids == ids_of(one[1])
    assert_same(runs, workdir, one)
    orbax = ("Waiting for previous save", "WARNING:absl:Waiting for previous save")  # if slow
    others = ("[Gloo]", "process 1 of 2: waiting for the others at", *orbax)
    assert "prec@0.5" in outputs[0]  # only one process prints
    assert [line for line in outputs[1].splitlines() if not line.startswith(others)] == []
    run = json.loads((workdir / "run.json").read_text())
    assert run["devices"].startswith("2 × ") and run["devices"].endswith(" in 2 processes")


def test_two_processes_evaluate_as_one(runs, two_processes):
    """Compares evaluations during training with the final one of the best checkpoint."""
    workdir, _, _ = two_processes
    files = {}
    for name in ("metrics", "predictions", "analysis"):
        files[name] = (workdir / "eval" / "val" / f"{name}.json").read_text()
    scores = evaluate(runs.config(), workdir)["val"]
    for name, text in files.items():
        assert (workdir / "eval" / "val" / f"{name}.json").read_text() == text
    while_training = [line for line in lines(workdir) if line.get("val/oiou") == scores["oiou"]]
    assert any(all(line[f"val/{k}"] == scores[k] for k in METRIC_NAMES) for line in while_training)


def test_state_split_over_devices(runs, one):
    workdir, seen = runs.train("split", 8, shard_params=2)
    assert ids_of(seen) == ids_of(one[1])
    assert_same(runs, workdir, one)
    # The checkpoint is complete and can be restored with or without sharding.
    config = runs.config()
    with Checkpoints(workdir) as checkpoints:
        copied, split = (
            checkpoints.restore_state(STEPS, runs.experiment(config, mesh).abstract_state)
            for mesh in (make_mesh(jax.devices()[:1]), make_mesh(shards=4))
        )
    for a, b in zip(jax.tree.leaves(copied), jax.tree.leaves(split), strict=True):
        np.testing.assert_array_equal(a, b)
    kernel = split.opt_state[0].mu["backbone"]["stage5_down"]["conv"]["kernel"]
    assert not kernel.sharding.is_fully_replicated
    assert kernel.addressable_shards[0].data.size == kernel.size / 4
    size = {id(state): device_bytes(state) for state in (copied, split)}
    assert size[id(split)] < 0.45 * size[id(copied)]


def device_bytes(state):
    """Returns the bytes on the first device."""
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))


def test_accumulation_on_two_devices_is_a_plain_loop_over_parts(runs, one):
    """Compares with gradients per microbatch, averaged outside the compiled step."""
    parts, weight = 4, runs.config().train.location_weight
    workdir, seen = runs.train("accumulated", 2, accumulate=parts)
    assert ids_of(seen) == ids_of(one[1])
    config = runs.config()
    experiment = runs.experiment(config, make_mesh(jax.devices()[:1]))
    model, state = experiment.model, experiment.initial_state()
    params, stats = state.params, state.batch_stats
    optimizer = optax.adam(3e-5)
    moments = optimizer.init(params)

    @jax.jit
    def gradients(params, stats, batch):
        def loss_fn(params):
            outputs, updates = model.apply(
                {"params": params, "batch_stats": stats},
                batch["image"].astype(jnp.float32) / 255,
                batch["tokens"],
                batch["length"],
                train=True,
                mutable=["batch_stats"],
            )
            loss, _ = losses.total_loss(outputs, batch["truth4"], batch["truth8"], weight)
            return loss, updates["batch_stats"]

        return jax.value_and_grad(loss_fn, has_aux=True)(params)

    update = jax.jit(optimizer.update)
    expected = []
    for batch in seen[:15]:  # the learning rate drops after them
        results = [
            gradients(params, stats, {k: v[i::parts] for k, v in batch.items()})
            for i in range(parts)
        ]
        (loss, stats), grads = jax.tree.map(lambda *x: sum(x) / parts, *results)
        updates, moments = update(grads, moments)
        params = optax.apply_updates(params, updates)
        expected.append(float(loss))
    np.testing.assert_allclose(losses_of(workdir)[:15], expected, rtol=1e-4)
    # BatchNorm over microbatches makes this run differ from one with full batches.
    assert not np.allclose(expected, one[0][:15], rtol=1e-4)


@pytest.mark.parametrize("n_devices", [1, 2])
def test_begun_on_eight_devices_resumed_on_fewer(runs, one, begun_on_eight, n_devices):
    workdir, seen = runs.train(f"on_{n_devices}", n_devices, start=begun_on_eight)
    assert ids_of(seen) == ids_of(one[1])[MIDDLE:]
    assert_same(runs, workdir, one)


def test_begun_on_eight_devices_resumed_on_two_processes_split_over_both(runs, one, begun_on_eight):
    """Joined through SLURM's environment; each array has four shards, two per process."""
    workdir, _, ids = runs.command(
        "split_over_both", by_slurm, devices=2, start=begun_on_eight, shard_params=4
    )
    assert ids == ids_of(one[1])[MIDDLE:]
    assert_same(runs, workdir, one)
    test_two_processes_evaluate_as_one(runs, (workdir, None, None))


def test_begun_on_two_processes_resumed_on_one(runs, one, two_processes):
    workdir, seen = runs.train("back", 1, STEPS + 4, start=two_processes[0])
    assert len(seen) == 4 and len(losses_of(workdir)) == STEPS + 4
    longer, whole = runs.train("longer", 1, STEPS + 4, start=runs.folder / "one")
    assert ids_of(seen) == ids_of(whole)
    np.testing.assert_allclose(losses_of(workdir), losses_of(longer), rtol=1e-4)
