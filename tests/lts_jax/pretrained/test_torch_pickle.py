"""What a few bytes of a pickle name again and again costs no memory and no time."""

import pytest

from lts_jax.pretrained import torch_pickle


def test_nested_tuples_are_not_written_out():
    value: object = 1
    for _ in range(40):  # 2 to the 40th numbers, if written out
        value = (value, value)
    with pytest.raises(Exception, match="a call of") as error:
        torch_pickle._call(value, ())
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torch.Size", ([1] * 9,)),
        ("torch.Size", (7,)),
        ("torch._utils._rebuild_tensor_v2", ("no storage", 0, [1], [1])),
    ],
)
def test_shapes_that_no_tensor_has(name, arguments):
    with pytest.raises(ValueError, match="8"):
        torch_pickle._call(torch_pickle._Global(name), arguments)
