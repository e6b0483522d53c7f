"""How much of a training the device spends idle: JAX's own trace of the very loop that trains.

    python -m benchmarks.idle --config configs/shapes.py --steps 50 --out idle.json

The run is stopped behind the traced steps; nothing of it stays. Reading, decoding, sending to the
device and logging are all in it, evaluation and checkpoints are not.
"""

import argparse
import signal
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

from benchmarks import machine, turns
from lts_jax.cli import requested_config
from lts_jax.huge_pages import start_again
from lts_jax.stopping import Stop, Stopped
from lts_jax.train import train
from lts_jax.writers import write_json

# What runs on a device: kernels of a GPU's streams, operations of a TPU, and on a CPU the threads
# that run compiled programs.
_LINES = (("/device:GPU", "Stream"), ("/device:TPU", "XLA Ops"), ("/host:CPU", "tf_XLAPjRtCpu"))
# Of what a CPU computes while a trace begins, the trace holds nothing: it would look idle. So time
# counts from a mark, two steps later.
_MARK, _LEAD = "benchmarks.idle", 2


class TracedStop(Stop):
    """Traces some steps of a training, which calls `hold` behind each, and then stops it.

    Args:
      folder: of the trace.
      first: step behind which the trace begins.
      steps: to trace.
    """

    def __init__(self, folder: Path, first: int, steps: int) -> None:
        super().__init__()
        self._folder, self._first, self._last = folder, first, first + _LEAD + steps
        self._step = 0

    def hold(self) -> None:
        """A step was given to the device."""
        self._step += 1
        if self._step == self._first:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # Python's own calls would slow down what is measured
            jax.profiler.start_trace(self._folder, profiler_options=options)
        if self._step == self._first + _LEAD:
            with jax.profiler.TraceAnnotation(_MARK):
                pass
        if self._step == self._last:
            jax.profiler.stop_trace()
            self.signal = signal.SIGTERM


def busy_share(intervals: Iterable[tuple[float, float]]) -> float:
    """Returns the share of the time between the first start and the last end that they cover."""
    ordered = sorted(intervals)
    covered, end = 0.0, ordered[0][0]
    for start, stop in ordered:
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered / (end - ordered[0][0])


def device_intervals(trace: Path) -> dict[str, list[tuple[float, float]]]:
    """Reads when each device of a trace was at work: starts and ends, nanoseconds.

    Counts from the mark in the trace, or from its beginning where there is none.
    """
    (file,) = trace.rglob("*.xplane.pb")
    found: dict[str, list[tuple[float, float]]] = {}
    planes = list(ProfileData.from_file(str(file)).planes)
    events = (e for plane in planes for line in plane.lines for e in line.events)
    begin = max((e.start_ns for e in events if e.name == _MARK), default=0.0)
    for plane in planes:
        for of_plane, of_line in _LINES:
            if not plane.name.startswith(of_plane):
                continue
            for line in plane.lines:
                if line.name.startswith(of_line):
                    spans = ((e.start_ns, e.start_ns + e.duration_ns) for e in line.events)
                    seen = [(max(start, begin), end) for start, end in spans if end > begin]
                    found.setdefault(plane.name, []).extend(seen)
    return {name: spans for name, spans in found.items() if spans}


def measure(config_file: str, overrides: list[str], first: int, steps: int) -> dict[str, Any]:
    """Trains for a while and returns the idle share of each device."""
    config = requested_config(config_file, overrides)
    config.eval.every_epochs = 1e6
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        try:
            train(config, Path(folder) / "run", TracedStop(trace, first, steps))
        except Stopped:
            pass
        else:
            raise SystemExit(f"error: the training ended before step {first + _LEAD + steps}")
        spans = device_intervals(trace)
    return {
        "config": config_file,
        "overrides": overrides,
        "first": first,
        "steps": steps,
        "idle_share": {name: 1 - busy_share(of_device) for name, of_device in spans.items()},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "load_average": turns.load_average(),
        **machine.describe(("jax", "jaxlib", "flax")),
    }


def main() -> None:
    """Runs what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--first", type=int, default=10, help="steps before the trace")
    parser.add_argument("--steps", type=int, default=50, help="in the trace")
    parser.add_argument("--out", type=Path)
    args, overrides = parser.parse_known_args()
    result = measure(args.config, overrides, args.first, args.steps)
    for name, share in result["idle_share"].items():
        print(f"{name}: idle {share:.2%} of {args.steps} steps ({result['device']})")
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    start_again()  # as the command itself does
    main()
