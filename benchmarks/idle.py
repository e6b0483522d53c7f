"""Measures the share of training time for which the device is idle, from a JAX trace.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
      python -m benchmarks.idle --config configs/shapes.py --steps 50 --out idle.json

The run is stopped after the traced steps and its workdir is deleted. The trace includes reading,
decoding, the transfer to the device and logging, but no evaluation and no checkpoints.
"""

import signal
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.profiler import ProfileData

from benchmarks import machine
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.config.flags import load_config
from lts_jax.errors import Stopped
from lts_jax.io.files import write_json
from lts_jax.training.loop import train
from lts_jax.training.preemption import Stop

# Device activity: kernels in a GPU's streams, operations of a TPU, and on a CPU the threads that
# run compiled programs.
_LINES = (("/device:GPU", "Stream"), ("/device:TPU", "XLA Ops"), ("/host:CPU", "tf_XLAPjRtCpu"))
# A trace misses computations that are running on a CPU when it starts, which would look idle.
# Therefore the measurement starts at a mark two steps later.
_MARK, _LEAD = "benchmarks.idle", 2


class TracedStop(Stop):
    """Traces some training steps and then stops the training, which calls `training` every step.

    Args:
      folder: folder of the trace.
      first: step after which the trace begins.
      steps: number of traced steps.
    """

    def __init__(self, folder: Path, first: int, steps: int) -> None:
        super().__init__()
        self._folder, self._first, self._last = folder, first, first + _LEAD + steps
        self._step = 0

    def training(self) -> None:
        """Counts a step that was dispatched to the device."""
        super().training()
        self._step += 1
        if self._step == self._first:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # tracing Python calls would slow it down
            jax.profiler.start_trace(self._folder, profiler_options=options)
        if self._step == self._first + _LEAD:
            with jax.profiler.TraceAnnotation(_MARK):
                pass
        if self._step == self._last:
            jax.profiler.stop_trace()
            self.signal = signal.SIGTERM


def busy_share(intervals: Iterable[tuple[float, float]]) -> float:
    """Returns the share of time, from the first start to the last end, covered by intervals."""
    ordered = sorted(intervals)
    covered, end = 0.0, ordered[0][0]
    for start, stop in ordered:
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered / (end - ordered[0][0])


def device_intervals(trace: Path) -> dict[str, list[tuple[float, float]]]:
    """Returns the busy intervals of each device in a trace: starts and ends, nanoseconds.

    Only time after the mark counts, or the entire trace if there is no mark.
    """
    (file,) = trace.rglob("*.xplane.pb")
    busy: dict[str, list[tuple[float, float]]] = {}
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
                    busy.setdefault(plane.name, []).extend(seen)
    return {name: spans for name, spans in busy.items() if spans}


def measure(config_file: str, overrides: Sequence[str], first: int, steps: int) -> dict[str, Any]:
    """Trains for some steps and returns the idle share of each device."""
    config = load_config(config_file, overrides)
    config.eval.every_epochs = 1e5
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
        "overrides": list(overrides),
        "first": first,
        "steps": steps,
        "idle_share": {name: 1 - busy_share(of_device) for name, of_device in spans.items()},
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "load_average": machine.load_average(),
        **machine.describe(("jax", "jaxlib", "flax")),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, config=True)
    parser.add_argument("--first", type=int, default=10, help="number of steps before the trace")
    parser.add_argument("--steps", type=int, default=50, help="number of traced steps")
    args = parse_arguments(parser, arguments)
    result = measure(args.config, args.overrides, args.first, args.steps)
    for name, share in result["idle_share"].items():
        print(f"{name}: idle {share:.2%} of {args.steps} steps ({result['device']})")
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
