"""Tasks of development: `nox -l` lists them. They run in the current environment."""

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "test"]
TESTS = ("python", "-m", "pytest", "-n", "2")


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, lint and imports, then types."""
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")
    types(session)


@nox.session
def types(session: nox.Session) -> None:
    """Types."""
    session.run("mypy")


@nox.session
def test(session: nox.Session) -> None:
    """The default tests."""
    session.run(*TESTS, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The slow tests, then those that need several devices."""
    session.run(*TESTS, "-m", "slow and not eight_devices", *session.posargs)
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    session.run(*TESTS, "-m", "eight_devices", *session.posargs, env=devices)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, in build/site."""
    session.run("mkdocs", "build", "--strict")


@nox.session
def bench(session: nox.Session) -> None:
    """A training step of the full network beside PyTorch's."""
    arguments = session.posargs or ["--config", "refcoco", "--batch", "2", "--against", "torch"]
    session.run("python", "-m", "benchmarks.train_step", *arguments)
