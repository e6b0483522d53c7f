"""Parses every command in the documentation with the program that it calls."""

import importlib
import re
import shlex

import pytest

from lts_jax.cli import command
from lts_jax.config.flags import load_config
from lts_jax.main import MODES
from tests.launch.test_scripts import SCRIPTS
from tfds_refcoco import __main__ as data_command

OTHERS = {
    *("curl", "unzip", "docker", "gcloud", "gcsfuse", "ssh-add", "mkdir", "git", "nox", "export"),
    *("pre-commit", "hf", ".", "python", "for", "do", "done", ".ci/run", "CUDA_VISIBLE_DEVICES=0"),
}
"""External programs; `tests/launch` runs the commands of the launch scripts."""


class Parsed(Exception):  # noqa: N818
    """Stops a command after its arguments were parsed."""


def documented(root):
    """Yields the commands in code blocks and in inline code, which may omit arguments."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    for page in [*pages, root / "docs/results/README.md"]:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        lines = [(True, line) for b in blocks for line in b.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
        programs = "lts |python -m (lts_jax|tfds_refcoco|benchmarks)"
        lines += [(False, code) for code in inline if re.match(programs, code)]
        for complete, line in lines:
            if re.match(r"python -c|index = |for |    ", line):  # a program in quotes, a loop
                continue
            words = shlex.split(line, comments=True)
            while words:
                ends = [i for i, word in enumerate(words) if word in ("&&", "|", "||", ">", ";")]
                end = min(ends, default=len(words))
                if len(words[:end]) > 1:
                    yield page.name, words[:end], complete
                words = words[end + 1 :]


def parse(words, monkeypatch):
    """Parses a command; raises SystemExit if its program does not know an argument."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]) and len(words) > 1:
        words = words[1:]
    if words[0] == "python" and words[1] == "-m":
        program, words = words[2], words[3:]
    else:
        program, words = words[0], words[1:]
    if program == "lts_jax.main":
        mode = next((w.partition("=")[2] for w in words if w.startswith("--mode=")), "train")
        assert mode in MODES
        program, words = "lts", [mode, *(w for w in words if not w.startswith("--mode="))]
    if program in ("lts", "lts_jax"):
        return parse_lts(words, monkeypatch)
    if program == "tfds_refcoco":
        return data_command._parser("").parse_args(words)
    if program.startswith("benchmarks."):
        return parse_benchmark(program, words, monkeypatch)
    known = program in OTHERS or program.removeprefix("launch/") in SCRIPTS or program == "sbatch"
    known |= program in ("pip", "pytest", "venv") or program.startswith("tests.")
    assert known, program
    return None


def parse_lts(words, monkeypatch):
    name = words[0] if words else "--help"
    if name.startswith("--") or words[1:] == ["--help"]:
        return None
    if name == "data":
        return data_command._parser("").parse_args(words[1:])
    module = importlib.import_module(f"lts_jax.cli.{'evaluate' if name == 'eval' else name}")

    def run(args):
        if getattr(args, "config", None) and not args.config.startswith("NAME"):
            load_config(args.config, args.overrides)
        raise Parsed

    monkeypatch.setattr(module, "run", run)
    with pytest.raises(Parsed):
        command.main(words)
    return None


def parse_benchmark(program, words, monkeypatch):
    module = importlib.import_module(program)
    if program == "benchmarks.compiled.tables":  # has no arguments
        return
    if not hasattr(module, "parse_arguments"):  # a command that uses benchmarks.network's arguments
        module = importlib.import_module("benchmarks.network")
    parse_arguments = module.parse_arguments

    def stop(parser, arguments=None):
        parse_arguments(parser, arguments)
        raise Parsed

    monkeypatch.setattr(module, "parse_arguments", stop)
    monkeypatch.setattr("sys.argv", [program, *words])
    with pytest.raises(Parsed):
        importlib.import_module(program).main()


def test_every_command_is_valid(repo_root, monkeypatch, capsys):
    monkeypatch.chdir(repo_root)
    pages, failures = {}, []
    for page, words, complete in documented(repo_root):
        if any(
            re.fullmatch(r"[A-Z]|FORMAT|NAME|INPUT|\$\w+", word) for word in words
        ):  # a placeholder
            continue
        pages[page] = pages.get(page, 0) + 1
        with monkeypatch.context() as patch:
            try:
                parse(words, patch)
            except (
                SystemExit,
                AssertionError,
                ImportError,
                ValueError,
                pytest.fail.Exception,
            ) as error:
                message = " ".join(capsys.readouterr().err.splitlines()[-1:])
                if not complete and "the following arguments are required" in message:
                    continue
                failures.append(f"{page}: {shlex.join(words)}: {error!r} {message}")
    assert not failures, "\n".join(failures)
    assert sum(pages.values()) > 100
    assert {"README.md", "index.md", "data.md", "training.md", "launch.md"} <= pages.keys()
