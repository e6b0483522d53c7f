"""Parses a compiled program: its kernels, and the bytes that each kernel reads and writes.

The text is XLA's scheduled HLO. Every instruction of the entry computation that computes something
is a kernel, which is assumed to read each operand once and to write its result once. If a fusion
reads only slices of an operand, only these count; workspaces do not count.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d\w*)?)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"(ROOT )?%(\S+) = (.*?) ([a-z][a-z\d\-]*)\((.*)$")
_COMPUTATION = re.compile(r"(ENTRY )?%(\S+) \(.*\{$")
_FREE = {
    "add-dependency", "after-all", "bitcast", "constant", "get-tuple-element", "iota", "parameter",
    "partition-id", "replica-id", "tuple",
}  # fmt: skip
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_CALLS = {
    "__cublas$lt$matmul": "matrix product, cuBLAS",
    "__cublas$gemm": "matrix product, cuBLAS",
    "__cudnn$convForward": "convolution, cuDNN",
    "__cudnn$convBiasActivationForward": "convolution and sum, cuDNN",
    "__cudnn$convBackwardFilter": "convolution's kernel gradient, cuDNN",
    "__cudnn$convBackwardInput": "convolution's input gradient, cuDNN",
}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Attributes:
      name: name of the result.
      shape: type of the result, as text.
      op: the operation.
      arguments: the text in parentheses.
      rest: the attributes, as text.
      root: whether it is the result of its computation.
    """

    name: str
    shape: str
    op: str
    arguments: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """Names of the operands."""
        return re.findall(r"%([\w.\-]+)", self.arguments)

    def attribute(self, pattern: str) -> str:
        """Returns the first group of a pattern, or "" if it does not match."""
        match = re.search(pattern, self.rest)
        return match[1] if match else ""


Computations = Mapping[str, Mapping[str, Instruction]]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel.

    Attributes:
      kind: kind of the kernel.
      name: name of the instruction.
      source: the corresponding operation of the JAX program.
      bytes: bytes read and written by all calls.
      calls: number of calls in a run of the program.
      travels: bytes reduced over the devices or sent to other devices.
    """

    kind: str
    name: str
    source: str
    bytes: int
    calls: int
    travels: int = 0


def kernels(text: str) -> list[Kernel]:
    """Returns a program's kernels in execution order."""
    computations, entry = parse(text)
    return list(_kernels(computations, entry, 1))


def parse(text: str) -> tuple[Computations, str]:
    """Returns the instructions of each computation by name, and the name of the entry point."""
    computations: dict[str, dict[str, Instruction]] = {}
    current, entry = "", ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = header[2]
            computations[current] = {}
            entry = current if header[1] else entry
        elif line.startswith("}"):
            current = ""
        elif current and (match := _INSTRUCTION.match(line.strip())):
            root, name, shape, op, rest = match.groups()
            arguments = _up_to_parenthesis(rest)
            rest = rest[len(arguments) :]
            computations[current][name] = Instruction(name, shape, op, arguments, rest, bool(root))
    return computations, entry


def _up_to_parenthesis(text: str) -> str:
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return text[:i]
    return text


def bytes_of(shape: str) -> int:
    """Returns the bytes of a type's arrays in the device's main memory."""
    total = 0
    for kind, sides, layout in _ARRAY.findall(shape):
        if re.search(r"S\([1-9]", layout):  # on-chip memory of a TPU
            continue
        bits = _BITS[kind] if kind in _BITS else int(re.findall(r"\d+", kind)[0])
        total += bits * math.prod(int(n) for n in sides.split(",") if n) // 8
    return total


def _elements(shape: str) -> int:
    return sum(math.prod(int(n) for n in a[1].split(",") if n) for a in _ARRAY.findall(shape))


def _kernels(computations: Computations, name: str, calls: int) -> Iterator[Kernel]:
    body = computations[name]
    for step in body.values():
        if step.op in _FREE or step.op.endswith("-done"):
            continue
        if step.op == "while":
            times = int(step.attribute(r'known_trip_count":\{"n":"(\d+)') or 1)
            yield from _kernels(computations, step.attribute(r"body=%([\w.\-]+)"), calls * times)
        elif step.op in ("call", "async-start"):
            called = step.attribute(r"(?:to_apply|calls)=%([\w.\-]+)")
            yield from _kernels(computations, called, calls)
        elif step.op == "conditional":
            branches = re.findall(r"%([\w.\-]+)", step.attribute(r"branch_computations=\{([^}]*)"))
            ways = [list(_kernels(computations, branch, calls)) for branch in branches]
            yield from max(ways, key=lambda way: sum(k.bytes for k in way), default=[])
        else:
            yield _kernel(computations, body, step, calls)


def _kernel(
    computations: Computations, body: Mapping[str, Instruction], step: Instruction, calls: int
) -> Kernel:
    read = {name: bytes_of(body[name].shape) for name in step.operands if name in body}
    written, travels = bytes_of(step.shape), 0
    fused = computations.get(step.attribute(r"calls=%([\w.\-]+)"))
    if step.op == "fusion" and fused is not None:
        parts = zip(step.operands, _parts(fused), strict=True)
        read = {name: min(read[name], part) for name, part in parts}
        written = min(written, _written(fused))
    elif step.op == "custom-call":
        results = _ARRAY.findall(step.shape)
        if len(results) > 1 and results[-1][0] in ("s8", "u8"):  # the workspace
            written -= math.prod(int(n) for n in results[-1][1].split(",") if n)
    elif step.op.endswith("-start"):  # its type includes the operands
        written = max(0, written - sum(read.values()))
    elif step.op == "dynamic-update-slice":  # in place
        written = read[step.operands[1]]
        read = {step.operands[1]: written}
    total = sum(read.values())
    if step.op.removesuffix("-start") in _COLLECTIVES:
        travels = calls * max(written, total)
    source = step.attribute(r'op_name="([^"]*)"')
    return Kernel(_kind(step), step.name, source, calls * (total + written), calls, travels)


def _kind(step: Instruction) -> str:
    if step.op == "custom-call":
        target = step.attribute(r'custom_call_target="([^"]*)"')
        return _CALLS.get(target, target)
    if step.op == "fusion":
        if "__triton" in step.rest:
            return "matrix product, Triton" if "gemm" in step.rest else "fusion, Triton"
        return "fusion, " + step.attribute(r"kind=k(\w+)").lower()
    return step.op


def _parts(fused: Mapping[str, Instruction]) -> list[int]:
    """Returns the bytes that a fusion reads of each operand."""
    used: dict[str, list[Instruction]] = {}
    for step in fused.values():
        for name in step.operands:
            used.setdefault(name, []).append(step)

    def share(name: str) -> float:
        """Returns the share of a value that is read, at most 1."""
        total, whole = 0.0, _elements(fused[name].shape)
        for user in used.get(name, []):
            if user.op in ("slice", "dynamic-slice") and user.operands[0] == name:
                total += _elements(user.shape) / max(1, whole)
            elif user.op in ("bitcast", "convert") and not user.root:
                total += share(user.name)
            elif (
                user.op != "dynamic-update-slice" or user.operands[0] != name
            ):  # otherwise in place
                return 1
        return min(1, total)

    parameters = {int(x.arguments): x.name for x in fused.values() if x.op == "parameter"}
    names = [parameters[i] for i in sorted(parameters)]
    return [round(share(name) * bytes_of(fused[name].shape)) for name in names]


def _written(fused: Mapping[str, Instruction]) -> int:
    """Returns the bytes that a fusion writes; an in-place update writes only the update."""

    def written(step: Instruction) -> int:
        if step.op == "tuple":
            return sum(written(fused[name]) for name in step.operands)
        if step.op == "bitcast" and step.operands[0] in fused:
            return written(fused[step.operands[0]])
        if step.op == "dynamic-update-slice":
            return bytes_of(fused[step.operands[1]].shape)
        return bytes_of(step.shape)

    return sum(written(step) for step in fused.values() if step.root)
