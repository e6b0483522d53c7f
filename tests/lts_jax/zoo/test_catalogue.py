"""The networks included in the package."""

import hashlib

import numpy as np
import pytest

import lts_jax
from lts_jax.cli import command
from lts_jax.distributed.mesh import one_device
from lts_jax.experiment.pretrained import load_pretrained
from lts_jax.zoo import catalogue


@pytest.mark.parametrize("name", catalogue.names())
def test_every_network_is_complete_and_small(name):
    folder = catalogue.folder(name)
    described = catalogue.describe(folder)
    weights = (folder / catalogue.WEIGHTS).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == described["sha256"]
    assert len(weights) <= 15_000_000
    card = (folder / catalogue.CARD).read_text()
    assert described["sha256"] in card and described["about"]
    assert card.startswith("---\n")
    for word in ("licen", "Limits", "CC BY 4.0", "real sentences"):
        assert word in card, word
    assert (
        "More information needed" not in card
    )  # a placeholder that the export leaves to the author
    trained = load_pretrained(name, one_device())
    assert trained.experiment.vocabulary.count_read(["a"] * 99, trained.config["data"]["max_words"])


def test_the_list_and_a_card(capsys):
    assert catalogue.names() == ["photos"]
    command.main(["models"])
    listed = capsys.readouterr().out
    assert "photos" in listed and "MB" in listed
    command.main(["models", "photos"])
    assert "Limits" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="unknown network 'photo'; available: photos"):
        command.main(["models", "photo"])


@pytest.mark.slow
def test_photos_finds_a_drawn_disc_by_its_side():
    """On a simple rendered image, the prediction depends on the sentence."""
    y, x = np.mgrid[:240, :320]
    image = np.full((240, 320, 3), 235, np.uint8)
    for column in (80, 240):
        image[(x - column) ** 2 + (y - 120) ** 2 < 45**2] = (225, 120, 30)
    predictor = lts_jax.Predictor.from_pretrained("photos")
    left, right = predictor(image, ["left orange", "right orange"])
    assert left.heatmap.shape == (240, 320)
    assert not left.unknown_words
    halves = [[p.probability[:, :160].mean(), p.probability[:, 160:].mean()] for p in (left, right)]
    assert halves[0][0] > halves[0][1] and halves[1][1] > halves[1][0]
