import subprocess

from lts_jax.experiment import provenance


def run(folder, *args):
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_revision_of_a_checkout_and_whether_it_is_modified(tmp_path, monkeypatch):
    monkeypatch.delenv("LTS_GIT_REVISION", raising=False)
    package = tmp_path / "package"
    package.mkdir()
    unknown = {"revision": "unknown", "dirty": None}
    assert provenance.git.__wrapped__(package) == unknown
    run(tmp_path, "init", "-q")
    (package / "__init__.py").write_text("")
    assert provenance.git.__wrapped__(package) == unknown  # git does not track the package
    run(tmp_path, "add", ".")
    run(tmp_path, "commit", "-qm", "first")
    revision = run(tmp_path, "rev-parse", "HEAD")
    assert provenance.git.__wrapped__(package) == {"revision": revision, "dirty": False}
    (package / "new.py").write_text("")
    assert provenance.git.__wrapped__(package)["dirty"] is False
    (package / "__init__.py").write_text("1")
    assert provenance.git.__wrapped__(package) == {"revision": revision, "dirty": True}


def test_the_revision_from_the_launch_scripts(tmp_path, monkeypatch):
    for revision, dirty in (("abc", False), ("abc-dirty", True)):
        monkeypatch.setenv("LTS_GIT_REVISION", revision)
        assert provenance.git.__wrapped__(tmp_path) == {"revision": "abc", "dirty": dirty}
