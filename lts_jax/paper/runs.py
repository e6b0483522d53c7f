"""Runs of the training command as processes, and what finished ones have measured."""

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

GRACE_S = 30.0  # for a run that was told to end


class Children:
    """Processes that end when this one is told to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def call(self, command: Sequence[str], log: Path) -> int:
        """Runs Python with arguments, appends what it says to `log`, returns its exit status."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            with self._lock:
                if self._stopped:
                    return -signal.SIGTERM
                # As anybody would type it, and not where this Python happens to lie.
                out.write(f"$ {shlex.join(['python', *command[1:]])}\n".encode())
                out.flush()
                # A session of its own: the terminal's Ctrl-C reaches it through `stop` alone.
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
        """Ends the running processes, by force after `GRACE_S`, and lets no other start."""
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
            pass  # what has not ended by now is killed
        finally:
            for process in running:
                process.kill()


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One training: a variant from a seed.

    Attributes:
      variant: of the config file.
      seed: of the config.
      workdir: the run's own folder.
      config: what the run's command asks for.
    """

    variant: str
    seed: int
    workdir: Path
    config: ConfigDict


def read_result(run: Run) -> dict[str, Any] | None:
    """Reads what a finished run has measured.

    Returns:
      `step` of the checkpoint evaluated, `devices`, `versions`, and by split the `metrics` (shares
      in 0..1, as in the workdir) and the description of the `data`; None where the run is not
      finished: an evaluation is missing, or was made with another `train.epochs`.

    Raises:
      ConfigError: the workdir holds a run with another config; the message names the fields.
    """
    # Once there is a checkpoint the run cannot become another one.
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
    # A run that trained on and was stopped while it evaluated has old and new evaluations.
    agreeing = len({s["step"] for s in saved}) == 1 and all(
        s["config"]["train"]["epochs"] == run.config.train.epochs for s in saved
    )
    if not (finished and agreeing):
        return None
    kept = ("step", "trained_on", "devices", "versions")
    return {key: saved[0][key] for key in kept} | {"splits": splits}


def why_unfinished(run: Run) -> str:
    """Says why `read_result` returns None for a run."""
    missing = [
        name
        for name in run.config.eval.splits
        if not (run.workdir / "eval" / name / "run.json").exists()
    ]
    if missing:
        return f"the evaluation of {', '.join(missing)} is missing or was interrupted"
    return "its splits were not evaluated with the same checkpoint, or after fewer epochs"


def train(
    runs: Sequence[Run],
    command: Callable[[Run], list[str]],
    jobs: int,
    finished: Callable[[Run], None],
) -> None:
    """Trains and evaluates runs in their order, `jobs` at a time.

    Args:
      runs: to start.
      command: of a run.
      jobs: most processes at a time.
      finished: called after each run, here in the caller's thread.

    Raises:
      RunError: runs have failed; the others were still trained.
      KeyboardInterrupt: and the runs were ended.
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
            raise RunError(f"{name} failed with status {status}: {_last_line(log)} (log: {log})")
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
        raise RunError(f"{len(errors)} of {len(runs)} runs failed, the first was {errors[0]}")


def _last_line(log: Path) -> str:
    """What a failed run has said of it; threads of the libraries may speak after it."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = [line for line in reversed(lines) if line.strip()]
    return next((line for line in last if line.startswith("error: ")), last[0] if last else "")


def _read(path: Path, shape: Shape) -> Any:
    """Reads a file of a run; None where there is none."""
    return (
        read_json(path, shape, "move it away, and the run is made anew") if path.exists() else None
    )
