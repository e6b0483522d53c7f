"""Runs the training command in subprocesses, and reads the results of finished runs."""

import dataclasses
import logging
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lts_jax.config.compatibility import check_same_run
from lts_jax.errors import RunError
from lts_jax.evaluation import schema
from lts_jax.io.json_files import Shape, read_json

logger = logging.getLogger(__name__)

GRACE_S = 30.0  # seconds from SIGTERM to SIGKILL


class Children:
    """Subprocesses that can be stopped together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def call(self, command: Sequence[str], log: Path) -> int:
        """Runs a command, appends its output to `log`, and returns its exit status."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            with self._lock:
                if self._stopped:
                    return -signal.SIGTERM
                # Log "python" instead of the interpreter's path, so that the line can be reused.
                out.write(f"$ {shlex.join(['python', *command[1:]])}\n".encode())
                out.flush()
                # A new session, so that only `stop` interrupts it and not the terminal's Ctrl-C.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)

    def stop(self) -> None:
        """Terminates the processes, kills them after `GRACE_S`, and starts no others."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        try:
            for process in running:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass  # killed below
        finally:
            for process in running:
                process.kill()


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A training run of a variant with a seed.

    Attributes:
      variant: of the config file.
      seed: of the config.
      workdir: of the run.
      config: of the run's command.
    """

    variant: str
    seed: int
    workdir: Path
    config: ConfigDict


def read_result(run: Run) -> dict[str, Any] | None:
    """Reads the results of a finished run.

    Returns:
      The `step` of the evaluated checkpoint, `trained_on`, `devices`, `versions` and `splits`: by
      split the `metrics` (shares in 0..1, as in the workdir) and the description of the `data`.
      None if the run is unfinished: an evaluation is missing or had another `train.epochs`.

    Raises:
      ConfigError: the workdir contains a run with another config; the message lists the fields.
    """
    # The config of a run is fixed as soon as it has a checkpoint.
    if any((run.workdir / "checkpoints").glob("[0-9]*")):
        trained = _read(run.workdir / "run.json", schema.TRAINED_RUN)
        if trained:
            check_same_run(trained["config"], run.config, run.workdir)
    saved, splits = [], {}
    for split in run.config.eval.splits:
        folder = run.workdir / "eval" / split
        description = _read(folder / "run.json", schema.RUN)
        metrics = _read(folder / "metrics.json", schema.METRICS)
        if description and metrics:
            check_same_run(description["config"], run.config, run.workdir)
            saved.append(description)
            splits[split] = {"metrics": metrics, "data": description["data"]}
    finished = len(splits) == len(run.config.eval.splits)
    # A resumed run that was interrupted during its evaluation has old and new evaluations.
    agreeing = len({s["step"] for s in saved}) == 1 and all(
        s["config"]["train"]["epochs"] == run.config.train.epochs for s in saved
    )
    if not (finished and agreeing):
        return None
    kept = ("step", "trained_on", "devices", "versions")
    return {key: saved[0][key] for key in kept} | {"splits": splits}


def why_unfinished(run: Run) -> str:
    """Returns the reason why `read_result` returns None for a run."""
    missing = [
        name
        for name in run.config.eval.splits
        if not (run.workdir / "eval" / name / "run.json").exists()
    ]
    if missing:
        return f"the evaluation of {', '.join(missing)} is missing or was interrupted"
    return "its splits were evaluated with different checkpoints or another train.epochs"


def train(
    runs: Sequence[Run],
    command: Callable[[Run], list[str]],
    jobs: int,
    finished: Callable[[Run], None],
) -> None:
    """Trains and evaluates runs in order, up to `jobs` at a time.

    Args:
      runs: to start.
      command: returns the command of a run.
      jobs: maximum number of processes.
      finished: called after each successful run, in the caller's thread.

    Raises:
      RunError: some runs failed; the others were trained nevertheless.
      KeyboardInterrupt: after the runs were stopped.
    """
    children = Children()

    def attempt(number: int, run: Run) -> str:
        name = f"[{number}/{len(runs)}] {run.variant} seed {run.seed}"
        log = run.workdir / "log.txt"
        logger.info("%s: started, %s", name, log)
        start = time.monotonic()
        status = children.call(command(run), log)
        minutes = (time.monotonic() - start) / 60
        result = None if status else read_result(run)
        if result is None:
            raise RunError(
                f"{name} failed with exit status {status}: {_last_line(log)} (log: {log})"
            )
        split, value = next(iter(result["splits"].items()))
        oiou = 100 * value["metrics"]["oiou"]
        return f"{name}: done in {minutes:.1f} min, {split} oIoU {oiou:.2f}"

    done, errors = 0, []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = {pool.submit(attempt, i, run): run for i, run in enumerate(runs, 1)}
            for future in as_completed(futures):
                try:
                    line = future.result()
                except RunError as failed:
                    errors.append(str(failed))
                    logger.error(errors[-1])
                    continue
                done += 1
                logger.info("%s; %d of %d done", line, done, len(runs))
                finished(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop()
            raise
    if errors:
        raise RunError(
            f"{len(errors)} of {len(runs)} runs failed; rerun the same command to resume them. "
            f"First failure: {errors[0]}"
        )


def _last_line(log: Path) -> str:
    """Returns the error in a log, which library threads may write to later, or the last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = [line for line in reversed(lines) if line.strip()]
    return next((line for line in last if line.startswith("error: ")), last[0] if last else "")


def _read(path: Path, shape: Shape) -> Any:
    """Reads a file of a run; None if it does not exist."""
    fix = "move it away, then rerun the command to repeat the run"
    return read_json(path, shape, fix) if path.exists() else None
