"""What a wrong config file or flag says."""

import pytest

from lts_jax.config.flags import load_config
from lts_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "the file has no function 'get_config'"),
        ("open('absent')", "[Errno 2] No such file or directory: 'absent'"),
        ("def get_config(): open('absent')", "[Errno 2] No such file or directory: 'absent'"),
        ("def get_config(): return 1", "'int' is what get_config() returns"),
    ],
)
def test_a_config_file_that_is_none(tmp_path, text, said):
    load_config("shapes")  # nothing of it is taken for the next file's
    path = tmp_path / "c.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(str(path))
    assert str(error.value) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("train.batchsize=3", 'unknown field batchsize. Did you mean "batch_size" instead of'),
        ("trian.epochs=3", 'unknown field trian. Did you mean "train" instead of "trian"?'),
        ("train.remat=maybe", "Non-boolean argument to boolean flag 'maybe'"),
        ("eval.splits=3", "eval.splits=[3] must be one or more splits"),
    ],
)
def test_a_flag_that_fits_no_field(flag, said):
    with pytest.raises(ConfigError) as error:
        load_config("shapes", [f"--config.{flag}"])
    assert said in str(error.value) and "\n" not in str(error.value)
