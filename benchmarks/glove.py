"""Measures the time and memory to read a text file of word vectors as large as GloVe's largest.

    python -m benchmarks.glove --vectors words_300d_fp16.npz --out glove.json

The file contains the words of `--vectors`, evenly distributed among other words: 2.2 million lines
of 300 numbers, 6 GB, in a temporary folder. The reader of `model.word_vectors` reads it in a
separate process, with the imports of `lts pretrained glove`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.machine import describe, load_average
from lts_jax.io.files import write_json

_READ = """
import json, sys, time
from pathlib import Path
from lts_jax.experiment.experiment import Experiment
from lts_jax.pretrained import word_vectors

def memory(name):
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith(name))

path, words, cache = map(Path, sys.argv[1:])
words = words.read_text(encoding="utf-8").split("\\n")
before, start = memory("VmRSS"), time.perf_counter()
vectors = word_vectors.cached_vectors(path, words, int(sys.stdin.read()), cache)
seconds = time.perf_counter() - start
start = time.perf_counter()
again = word_vectors.cached_vectors(path, words, vectors.vectors.shape[1], cache)
print(json.dumps({
    "lines": vectors.lines, "found": int(vectors.known.sum()), "odd_lines": vectors.odd,
    "seconds": seconds, "seconds_from_the_cache": time.perf_counter() - start,
    "memory_after_import_bytes": before, "peak_memory_bytes": memory("VmHWM"),
}))
"""


def write_file(path: Path, words: list[str], vectors: np.ndarray, lines: int) -> None:
    """Writes the words with vectors, float `[V, D]`, among others; `lines` in total."""
    rng = np.random.default_rng(0)
    others = rng.normal(0, 0.4, (500, vectors.shape[1])).tolist()
    texts = [" ".join(f"{x:.5f}" for x in row) for row in others]
    every = lines // len(words)
    with path.open("w", encoding="utf-8") as file:
        for i in range(lines):
            at, rest = divmod(i, every)
            if rest == 0 and at < len(words):
                file.write(f"{words[at]} {' '.join(f'{x:.5f}' for x in vectors[at].tolist())}\n")
            else:
                file.write(f"<other{i}> {texts[i % len(texts)]}\n")


def benchmark(vectors: Path, lines: int, folder: Path) -> dict[str, Any]:
    """Writes the file, reads it in another process and deletes it."""
    with np.load(vectors) as saved:
        words, values = saved["words"].tolist(), saved["vectors"].astype(np.float32)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path, listed = Path(temporary) / "glove.txt", Path(temporary) / "words"
        write_file(path, words, values, lines)
        listed.write_text("\n".join(words), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", _READ, path, listed, Path(temporary) / "cache"],
            input=str(values.shape[1]),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        size = path.stat().st_size
    measured = json.loads(done.stdout)
    return {
        "file_bytes": size,
        "dimensions": values.shape[1],
        "words_asked_for": len(words),
        **measured,
        "load_average": load_average(),
        **describe(["numpy", "jax"]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--vectors", type=Path, required=True, help=".npz file with words and vectors"
    )
    parser.add_argument("--lines", type=int, default=2_200_000)
    parser.add_argument("--folder", type=Path, help="folder with enough space for the file")
    args = parse_arguments(parser, arguments)
    result = benchmark(args.vectors, args.lines, args.folder)
    print(json.dumps(result, indent=1))
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
