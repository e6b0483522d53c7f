"""Runs that start from pretrained files and from other runs, with the real training loop."""

import hashlib
import json
import re
import shutil
from functools import partial

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from lts_jax.cli import command
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.distributed.mesh import make_mesh
from lts_jax.errors import ConfigError, UnreadableCheckpointError
from lts_jax.evaluation.run import evaluate
from lts_jax.experiment.experiment import Experiment
from lts_jax.pretrained import glove
from lts_jax.pretrained.darknet import write_darknet
from lts_jax.pretrained.layout import Network
from lts_jax.state import train_state
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.training import initialization, loop
from tests.lts_jax.helpers import yolov3

NETWORK = Network(4, (1, 1, 1, 1, 1), True)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def short(config):
    config.train.epochs = 0.1
    config.train.drop_epochs = ()
    config.eval.splits = ("val",)
    config.eval.gallery = 0
    return config


def variables(workdir):
    with Checkpoints(workdir) as checkpoints:
        return flatten_dict(checkpoints.read_variables(checkpoints.latest_step), sep="/")


@pytest.fixture(scope="module")
def pretrained_run(tmp_path_factory, tiny_config_factory):
    """A run with a frozen backbone from a Darknet file and vectors for some words."""
    folder = tmp_path_factory.mktemp("files")
    arrays = yolov3.draw(yolov3.all_convs(NETWORK), high=1.0)
    write_darknet(folder / "yolov3.weights", yolov3.numbers(arrays), 32_013_312)
    rng = np.random.default_rng(0)
    (folder / "glove.txt").write_text(
        "".join(
            f"{word} {' '.join(map(str, rng.normal(0, 1, 8).round(4)))}\n"
            for word in ("the", "circle", "red", "elephant")
        )
        + "odd\n"
    )
    config = short(tiny_config_factory())
    config.model.backbone_weights = str(folder / "yolov3.weights")
    config.model.word_vectors = str(folder / "glove.txt")
    config.train.freeze = "backbone"
    config.train.lr_multipliers.words = 0.0
    workdir = folder / "run"
    loop.train_and_evaluate(config, workdir)
    return config, workdir, arrays, folder


@pytest.mark.slow
def test_files_are_in_the_trained_network(pretrained_run):
    _, workdir, arrays, folder = pretrained_run
    flat = variables(workdir)
    kernel = flat["params/backbone/stage2_down/conv/kernel"]
    np.testing.assert_array_equal(kernel, arrays["stage2_down"]["weights"].transpose(2, 3, 1, 0))
    var = flat["batch_stats/backbone/neck2_expand/norm/var"]
    np.testing.assert_array_equal(var, arrays["neck2_expand"]["var"])
    with Checkpoints(workdir) as checkpoints:
        words = checkpoints.read_run(checkpoints.latest_step)["vocabulary"]
    red = (folder / "glove.txt").read_text().splitlines()[2].split()
    row = flat["params/text/embed/embedding"][words.index("red") + 2]
    np.testing.assert_array_equal(row, np.array(red[1:], np.float32))


@pytest.mark.slow
def test_where_they_are_from_is_in_the_runs_metadata(pretrained_run, tiny_config_factory):
    config, workdir, _, folder = pretrained_run
    for path in (workdir / "run.json", workdir / "eval" / "val" / "run.json"):
        weights = json.loads(path.read_text())["weights"]
        backbone, vectors = weights["backbone_weights"], weights["word_vectors"]
        assert backbone["file"] == str(folder / "yolov3.weights")
        assert len(backbone["sha256"]) == len(vectors["sha256"]) == 64
        assert "stock YOLOv3" in backbone["warning"] and backbone["convolutions"] == 39
        assert 0 < vectors["tokens_with_vector"] < vectors["tokens"]
        assert vectors["odd_lines"] == {"too few numbers": 1}
    # The files are no longer needed, neither for evaluation nor to resume.
    moved = folder / "moved"
    (folder / "yolov3.weights").rename(moved)
    try:
        longer = config.copy_and_resolve_references()
        longer.train.epochs = 0.2
        loop.train(longer, workdir)
        run = json.loads((workdir / "run.json").read_text())
        assert run["weights"]["backbone_weights"] == backbone
        plain = short(tiny_config_factory())
        assert evaluate(plain, workdir)["val"]["sentences"] > 0
    finally:
        moved.rename(folder / "yolov3.weights")


def fill(config, words, sentences=()):
    """Fills a state that requires no compilation; returns its arrays and the sources."""
    vocabulary = Vocabulary(words)
    model = Experiment(config, make_mesh(), words).model
    size = config.data.image_size
    shapes = jax.eval_shape(lambda: train_state.init_state(model, optax.identity(), 0, size, 12))
    rng = np.random.default_rng(5)
    state = jax.tree.map(lambda x: jax.device_put(rng.normal(0, 1, x.shape)), shapes)
    before = {"params": state.params, "batch_stats": state.batch_stats}
    state, sources = initialization.fill(state, config, vocabulary, sentences)
    after = {"params": state.params, "batch_stats": state.batch_stats}
    return *(flatten_dict(jax.device_get(x), sep="/") for x in (before, after)), sources


def test_a_missing_file_is_named_with_its_field(tiny_config_factory, tmp_path):
    for section, field, output in (
        ("model", "backbone_weights", r"model\.backbone_weights: .*none cannot be read"),
        ("model", "word_vectors", "none cannot be read"),
        ("train", "start_from", "none contains no checkpoint"),
    ):
        config = tiny_config_factory()
        config[section][field] = str(tmp_path / "none")
        with pytest.raises(ConfigError, match=output):
            fill(config, ["a"])
    before, after, sources = fill(tiny_config_factory(), ["a"])
    assert sources == {}
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_start_from_a_run_whose_best_checkpoint_is_damaged(tmp_path, capsys):
    """As in an evaluation, the next best checkpoint is used, with a warning."""
    run = {"config": {}, "data": {}, "weights": {}}
    with Checkpoints(tmp_path) as checkpoints:
        for step, oiou in ((1, 0.3), (2, 0.9)):
            value = {"w": jnp.full(3, float(step))}
            state = train_state.TrainState(jnp.int32(step), value, value, ())
            batches = iter(grain.MapDataset.range(9).to_iter_dataset())
            checkpoints.save(step, state, batches, run, ["a"])
            checkpoints.score(step, {"oiou": oiou})
    (tmp_path / "checkpoints" / "2" / "vocabulary" / "metadata").write_text('["b"]')
    step, saved, theirs = initialization._read_run(tmp_path)
    assert (step, saved["vocabulary"], theirs["params/w"].tolist()) == (1, ["a"], [1.0] * 3)
    output = capsys.readouterr().err
    assert "checkpoints/2 is damaged: the checksum of its vocabulary is wrong" in output
    assert "using step 1, the next best" in output


@pytest.mark.slow
def test_start_from_a_run_of_another_vocabulary_resolution_and_shape(
    pretrained_run, tiny_config_factory, capsys
):
    _, source, _, folder = pretrained_run
    with Checkpoints(source) as checkpoints:
        their_words = checkpoints.read_run(checkpoints.latest_step)["vocabulary"]
    words = ["elephant", "unheard", *reversed(their_words[::2])]
    config = tiny_config_factory()
    config.train.start_from = str(source)
    config.model.word_vectors = str(folder / "glove.txt")  # for the new words
    config.data.image_size = 96
    config.model.segmenter_features = 12
    config.model.rounds = 2
    before, ours, sources = fill(config, words, ["red elephant"])
    output = "".join(capsys.readouterr())
    theirs = variables(source)
    for path, value in ours.items():
        if "/embed/" in path:
            continue
        same = path in theirs and theirs[path].shape == value.shape
        np.testing.assert_array_equal(value, theirs[path] if same else before[path])
    table = "params/text/embed/embedding"
    np.testing.assert_array_equal(ours[table][:2], theirs[table][:2])
    for word in words[2:]:
        row = theirs[table][their_words.index(word) + 2]
        np.testing.assert_array_equal(ours[table][words.index(word) + 2], row)
    elephant = (folder / "glove.txt").read_text().splitlines()[3].split()
    np.testing.assert_array_equal(ours[table][2], np.array(elephant[1:], np.float32))
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.split()}
    assert rows["backbone"] == ["110", "0", "0"]  # 22 convolutions of 5 arrays
    assert rows["text"][1:] == ["0", "0"] and rows["locator"] == ["1", "0", "6"]
    assert f"words: {len(words) - 2} loaded, 2 new" in output
    assert "  new params/locator/round1/kernel/kernel, random" in output
    assert "  skipped params/segmenter/mask/kernel" in output
    weights = sources["start_from"]
    assert weights["workdir"] == str(source) and weights["new_words"] == 2
    assert "stock" in weights["weights"]["backbone_weights"]["warning"]  # the warning is preserved
    # A progress bar may precede it.
    assert re.search(r"(^|\r)WARNING: .* is the stock YOLOv3", output, re.MULTILINE)
    assert "params/locator/mix1/conv/kernel" in weights["new"] and weights["skipped"]


def test_weights_that_need_other_conventions_are_rejected(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    write_darknet(tmp_path / "w", yolov3.numbers(yolov3.draw(yolov3.all_convs(NETWORK))))
    config.model.backbone_weights = str(tmp_path / "w")
    sources = fill(config, ["a"])[2]
    assert sources["backbone_weights"]["used_conventions"] == {
        "negative_slope": 0.1,
        "epsilon": 1e-5,
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
    }
    config.model.backbone_conventions = "timm"
    output = r"w: .*_conventions=timm .*: set --config\.model\.backbone_conventions=darknet$"
    with pytest.raises(ConfigError, match=rf"model\.backbone_weights={tmp_path}/{output}"):
        fill(config, ["a"])


def test_unknown_conventions_are_a_warning(tiny_config_factory, tmp_path, capsys):
    pytest.importorskip("torch", reason="torch writes the file")
    from tests.lts_jax.pretrained.torch_models import by_number, save, state_dict

    arrays = yolov3.draw(yolov3.all_convs(NETWORK))
    save(state_dict(arrays, partial(by_number, network=NETWORK), NETWORK), tmp_path / "x.pth")
    config = tiny_config_factory()
    config.model.backbone_weights = str(tmp_path / "x.pth")
    config.model.backbone_conventions = "ultralytics_2020"
    fill(config, ["a"])
    assert "darknet or ultralytics_2020 it was trained with: using ultralytics_2020" in (
        capsys.readouterr().err
    )


def test_start_from_a_run_of_other_conventions(trained_run, tiny_config_factory):
    config = tiny_config_factory()
    config.train.start_from = str(trained_run)
    assert fill(config, ["a"])[2]["start_from"]["loaded"]
    config.model.backbone_conventions = "timm"
    with pytest.raises(ConfigError, match=r"train\.start_from=.* set .*_conventions=darknet"):
        fill(config, ["a"])


def test_rows_follow_their_words():
    ours = {"params/text/embed/embedding": np.arange(10.0).reshape(5, 2)}
    theirs = {
        "params/text/embed/embedding": -np.arange(8.0).reshape(4, 2),
        "params/x/y": np.ones(1),
    }
    transfer = initialization.take_over(ours, theirs, ["a", "b", "c"], ["c", "a"])
    table = transfer.variables["params/text/embed/embedding"]
    np.testing.assert_array_equal(table[[0, 1, 2, 4]], [[0, -1], [-2, -3], [-6, -7], [-4, -5]])
    np.testing.assert_array_equal(table[3], [6, 7])
    assert (transfer.new_words, transfer.skipped, transfer.new) == (1, ["params/x/y"], [])
    np.testing.assert_array_equal(ours["params/text/embed/embedding"][0], [0, 1])  # unchanged


@pytest.mark.slow
def test_a_checkpoint_without_its_weights_record_is_unreadable(pretrained_run, tmp_path):
    shutil.copytree(pretrained_run[1], tmp_path / "old")
    with Checkpoints(tmp_path / "old") as checkpoints:
        step = checkpoints.latest_step
        assert "backbone_weights" in checkpoints.read_run(step)["weights"]
        shutil.rmtree(tmp_path / "old" / "checkpoints" / str(step) / "weights")
        with pytest.raises(UnreadableCheckpointError):
            checkpoints.read_run(step)


@pytest.mark.slow
def test_command_prints_how_many_words_have_a_vector(
    pretrained_run, shapes_dir, repo_root, monkeypatch, capsys
):
    _, _, _, folder = pretrained_run
    monkeypatch.chdir(repo_root)
    arguments = ["glove", str(folder / "glove.txt"), "--config", "configs/shapes.py"]
    data = [f"--config.data.dir={shapes_dir}"]
    out = folder / "own.npz"
    command.main(["pretrained", *arguments, *data, "--config.model.embed_dim=8", "--out", str(out)])
    output = capsys.readouterr().out
    assert re.search(r"train: vectors for 3 of \d+ types \(.*%\) and \d+ of [\d,]+ tokens", output)
    assert "1 with too few numbers" in output
    with np.load(out) as saved:
        assert set(saved["words"]) == {"the", "circle", "red"}
    assert [path.name for path in folder.glob(".*")] == []
    again = glove.read_vectors(out, ("red",), 8, progress=False)
    digest = hashlib.sha256((folder / "glove.txt").read_bytes()).hexdigest()
    assert again.origin["sha256"] == digest and again.origin["file"] == str(folder / "glove.txt")
    assert again.origin["odd_lines"] == {"too few numbers": 1}
    for flags, error in ((data, "128 numbers; the first, at byte 0"), (["--cnfig.x=1"], "")):
        with pytest.raises(SystemExit, match=error):
            command.main(["pretrained", *arguments, *flags])
