"""The commands that the scripts are expected to run."""

import shlex
import subprocess
from pathlib import Path

HUGE_PAGES = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"
ON_GPUS = (
    *("env", HUGE_PAGES, "JAX_PLATFORMS=cuda", "XLA_PYTHON_CLIENT_MEM_FRACTION=0.9"),
    "XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true",
)
RUN = ("--config", "configs/refcoco.py", "--workdir", "runs/a b")
TRAIN = ("-m", "lts_jax", "train", *RUN)
STEP = (
    *("srun", "--ntasks-per-node=1", "--cpus-per-task=8", "--kill-on-bad-exit=1", "--label"),
    *(*ON_GPUS, "JAX_LOCAL_DEVICE_IDS=0,1,2,3", "python", *TRAIN, "--distributed=auto"),
)
SLURM = {"SLURM_JOB_ID": "77", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "8"}

TPU = "gcloud compute tpus tpu-vm"
AT = "--zone=us-central2-b"
CODE = "lts_jax tfds_refcoco configs launch"
ROOT = Path(__file__).parent.parent.parent


def revision():
    """Returns the revision of the code that is sent; unknown if this is no checkout."""
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
    "{ echo 'error: a run is active on this worker: stop it first' >&2; exit 1; }; } && "
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
TRAIN_ON_TPU = (
    *("train", "--config", "configs/refcoco.py:star", "--data=gs://b/data/"),
    *("--workdir", "gs://b/runs/my run", "--poll=0.2"),
)
TRAIN_ON_WORKER = (
    *("-m", "lts_jax", "train", "--config", "configs/refcoco.py:star"),
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
    command = f"cd lts_jax && {shlex.join([*words, *TRAIN_ON_WORKER[2:], *more])}"
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
    """The commands of a dry run, except the local tar, which has no stand-in."""
    return [line for line in out.splitlines() if not line.startswith("env COPYFILE")]
