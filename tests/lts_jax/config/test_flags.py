"""Error messages for wrong config files and flags."""

import pytest

from lts_jax.config.flags import load_config, override_config, saved_config, split_overrides
from lts_jax.configs.fields import plain_config
from lts_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "the file has no function 'get_config'"),
        ("open('absent')", "[Errno 2] No such file or directory: 'absent'"),
        ("def get_config(): open('absent')", "[Errno 2] No such file or directory: 'absent'"),
        ("def get_config(): return 1", "'int' is what get_config() returns"),
    ],
)
def test_invalid_config_file(tmp_path, text, message):
    load_config("shapes")  # must not affect the next file
    path = tmp_path / "c.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(str(path))
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("train.batchsize=3", 'unknown field batchsize. Did you mean "batch_size" instead of'),
        ("trian.epochs=3", 'unknown field trian. Did you mean "train" instead of "trian"?'),
        ("train.remat=maybe", "Non-boolean argument to boolean flag 'maybe'"),
        ("eval.splits=3", "eval.splits=[3] must be one or more split names"),
    ],
)
def test_unknown_field_or_invalid_value_of_a_flag(flag, message):
    with pytest.raises(ConfigError) as error:
        load_config("shapes", [f"--config.{flag}"])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_threshold_is_a_number_or_val(tmp_path):
    """On the command line, in a file, and as an override of a saved config."""
    assert load_config("shapes").eval.threshold == 0.25
    for text, meant in (("0.4", 0.4), ("0", 0), ("val", "val"), ("'val'", "val")):
        config = load_config("shapes", [f"--config.eval.threshold={text}"])
        assert config.eval.threshold == meant
        saved = saved_config(plain_config(config))
        assert saved.eval.threshold == meant
        again = override_config(saved, split_overrides(["--config.eval.threshold", "val"])[0])
        assert again.eval.threshold == "val"
        assert override_config(again, ["--config.eval.threshold=0.3"]).eval.threshold == 0.3
    (tmp_path / "c.py").write_text(
        "from lts_jax.configs import shapes\n"
        "def get_config():\n"
        "    config = shapes.get_config()\n"
        "    config.eval.threshold = 'val'\n"
        "    return config\n"
    )
    assert load_config(str(tmp_path / "c.py")).eval.threshold == "val"
    for wrong, message in (
        ("best", "eval.threshold='best' must be a number or val"),
        ("1.5", "eval.threshold=1.5 must be at least 0 and less than 1"),
        ("(0.2, 0.4)", "eval.threshold=[0.2, 0.4] must be a number or val"),
    ):
        with pytest.raises(ConfigError) as error:
            load_config("shapes", [f"--config.eval.threshold={wrong}"])
        assert message in str(error.value)


def test_an_empty_value_of_a_list_is_an_empty_list():
    overrides = ["--config.train.drop_epochs=", "--config.data.mix="]
    config = load_config("shapes", overrides)
    assert config.train.drop_epochs == () and config.data.mix == ()
    assert override_config(config, overrides).train.drop_epochs == ()
    with pytest.raises(ConfigError, match=r"eval.splits=\[\] must be one or more split names"):
        load_config("shapes", ["--config.eval.splits="])
