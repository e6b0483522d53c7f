import json
import os
import subprocess
import sys

import pytest

from lts_jax import huge_pages

MADVISE, ALWAYS = "always [madvise] never\n", "[always] madvise never\n"
CODE = """
import json, os, sys
print("begun", flush=True)
from lts_jax.huge_pages import start_again
start_again()
print(json.dumps([os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv, sys.flags.utf8_mode]))
"""


@pytest.fixture
def setting(tmp_path, monkeypatch):
    file = tmp_path / "enabled"
    file.write_text(MADVISE)
    monkeypatch.setattr(huge_pages, "_SETTING", file)
    monkeypatch.setattr(os, "confstr_names", {"CS_GNU_LIBC_VERSION": 2})
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    return file


def test_asks_beside_what_was_given(setting):
    asked = "glibc.malloc.hugetlb=1"
    assert huge_pages.environment({"A": "b"}) == {"A": "b", "GLIBC_TUNABLES": asked}
    more = huge_pages.environment({"GLIBC_TUNABLES": "glibc.malloc.check=1"})
    assert more == {"GLIBC_TUNABLES": f"glibc.malloc.check=1:{asked}"}
    assert huge_pages.environment(more) is None


@pytest.mark.parametrize("version", ["glibc 2.34", "glibc 2.9", ""])
def test_libraries_that_cannot_be_asked(setting, monkeypatch, version):
    monkeypatch.setattr(os, "confstr", lambda name: version)
    assert huge_pages.environment({}) is None


def test_other_systems_and_the_users_own_word(setting, monkeypatch):
    assert huge_pages.environment({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}) is None
    setting.write_text(ALWAYS)
    assert huge_pages.environment({}) is None
    setting.unlink()
    assert huge_pages.environment({}) is None
    monkeypatch.setattr(os, "confstr_names", {})
    assert huge_pages.environment({}) is None


def test_starts_again_once_with_the_same_arguments(repo_root):
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    asking = huge_pages.environment(environment)
    process = subprocess.Popen(
        [sys.executable, "-X", "utf8=1", "-c", CODE, "--flag", "two words"],
        cwd=repo_root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    *begun, last = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    assert begun == ["begun"] * (1 if asking is None else 2)
    wanted = None if asking is None else asking["GLIBC_TUNABLES"]
    assert json.loads(last) == [process.pid, wanted, ["-c", "--flag", "two words"], 1]
