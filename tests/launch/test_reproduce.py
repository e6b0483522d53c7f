"""reproduce.sh."""

import re
import shlex

import pytest

from lts_jax.paper import numbers
from tests.launch.expected import ON_GPUS


def tables_call(name, table, *overrides, seeds=1):
    return shlex.join(
        [
            *("python", "-m", "lts_jax", "tables", "--config", name),
            *("--table", str(table), "--seeds", str(seeds), "--workdir", f"runs/tables/{name}"),
            *("--config.data.dir=data", *overrides),
        ]
    )


def build_call(dataset):
    return f"python -m lts_jax data build --dataset {dataset} --raw 'my raw' --out data"


@pytest.mark.slow
def test_reproduce_makes_every_table_of_the_paper(machine):
    weights, vectors = machine.folder / "d.weights", machine.folder / "my glove.zip"
    weights.write_text("x")
    vectors.write_text("x")
    overrides = [
        f"--config.model.backbone_weights={weights}",
        f"--config.model.word_vectors={vectors}",
        "--config.model.dtype=bfloat16",
    ]
    args = ("--raw=my raw", f"--backbone={weights}", "--vectors", str(vectors))
    args = (*args, "--", overrides[-1])
    status, out, err = machine.run("reproduce.sh", *args)
    expected = []
    for dataset, name in numbers.FAMILIES.items():
        expected.append(build_call(dataset))
        for table, rows in numbers.TABLES.items():
            if any(name in families for families in rows.values()):
                of_table = overrides if table != 3 else overrides[1:]  # a ResNet of its own
                expected.append(tables_call(name, table, *of_table))
    assert (status, err, machine.calls()) == (0, "", expected)
    written = re.findall(r"^wrote (.*)$", out, re.MULTILINE)
    assert len(written) == sum("lts_jax tables" in call for call in expected) == 13
    assert written[-1] == "runs/tables/refcocog/table7.md"

    _, dry, _ = machine.run("reproduce.sh", "--dry-run", *args)
    assert dry.replace(shlex.join(ON_GPUS) + " ", "").splitlines() == expected


def test_reproduce_goes_on_behind_a_table_that_fails(machine):
    machine.put("runs", "exit 1", "exit 0")
    status, out, err = machine.run("reproduce.sh", "--sets=refcocog", "--tables=1,2,4", "--seeds=3")
    calls = [tables_call("refcocog", table, seeds=3) for table in (1, 4)]
    assert (status, machine.calls()) == (1, calls)
    assert "warning: without --backbone and --vectors" in err
    assert "error: failed, see above: table 1 of refcocog" in err
    assert "wrote runs/tables/refcocog/table4.md" in out


def test_reproduce_does_not_go_on_when_told_to_stop(machine):
    machine.put("runs", "until never")
    process = machine.popen("reproduce.sh", "--sets=refcoco")
    machine.wait_for("running_here")
    process.terminate()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "saved" in out
    assert err.endswith("error: stopped; rerun the same command to resume\n")
    assert len(machine.calls()) == 1


def test_a_dry_run_needs_no_files(machine):
    args = ("--backbone=gone.weights", "--vectors=gone.zip", "--sets=refcoco", "--tables=1")
    status, out, err = machine.run("reproduce.sh", "--dry-run", *args, PYTHON="gone")
    assert (status, err) == (0, "")
    assert "--config.model.backbone_weights=gone.weights" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("--sets=refcoc",),
            "--sets: unknown dataset refcoc; choose from refcoco, refcocoplus, refcocog",
        ),
        (("--tables=1,8",), "--tables: unknown table 8; choose from 1, 2, 3, 4, 5, 6, 7"),
        (("--vectors=gone.zip",), "gone.zip: no such file"),
        (("--raw=gs://b/raw",), "--raw gs://b/raw is not a local folder"),
    ],
)
def test_reproduce_refuses(machine, args, said):
    status, _, err = machine.run("reproduce.sh", *args)
    assert status == 1 and f"error: {said}" in err and machine.calls() == []
