"""Each block equals the authors' own code with the same weights.

docs/results/table3/authors.py ran their code and wrote authors.npz: weights, inputs and outputs.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models.cmpc.comprehension import Level, Sentence, WordTypes
from lts_jax.models.cmpc.exchange import ConvLSTM, Exchange
from lts_jax.models.cmpc.layers import spatial_coordinates, unit
from lts_jax.models.lstm import LSTMEncoder
from tests.lts_jax.helpers.oracles import relative_error

LEVELS = ("c3", "c4", "c5")


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).with_name("authors.npz")) as file:
        return dict(file)


def linear(theirs, name):
    return {"kernel": theirs[f"{name}/DW"][0, 0], "bias": theirs[f"{name}/biases"]}


def norm(theirs, name):
    return {"scale": theirs[f"{name}/gamma"], "bias": theirs[f"{name}/beta"]}


def heads(theirs, name):
    each = [linear(theirs, f"{name}_head{r}") for r in range(1, 6)]
    return {
        "kernel": np.stack([head["kernel"] for head in each], axis=1),
        "bias": np.stack([head["bias"] for head in each]),
    }


def types_params(theirs):
    return {"hidden_map": linear(theirs, "words_parse_1"), "types": linear(theirs, "words_parse_2")}


def level_params(theirs, level):
    return {
        # Their features are already unit vectors.
        "lateral": {"kernel": np.eye(6, dtype=np.float32), "bias": np.zeros(6, np.float32)},
        "image": heads(theirs, f"vis_trans_{level}"),
        "text": heads(theirs, f"lang_trans_{level}"),
        "reasoning": {
            "words": linear(theirs, f"words_trans_{level}"),
            "cells": linear(theirs, f"spa_graph_trans2_{level}"),
            "update": linear(theirs, f"gconv_update_spa_graph_{level}"),
            "message_norm": norm(theirs, f"gconv_feat_ln_spa_graph_{level}"),
            "update_norm": norm(theirs, f"gconv_update_ln_spa_graph_{level}"),
        },
        "fuse": linear(theirs, f"fusion_{level}"),
    }


def read_sentence(theirs):
    """Returns features of four words, followed by two padded positions."""
    words = np.pad(theirs["words"][0], ((0, 0), (0, 2), (0, 0)))
    types = WordTypes().apply({"params": types_params(theirs)}, words)
    return Sentence(jnp.asarray(words), np.arange(6)[None] < 4, types)


def test_coordinates_and_word_types(theirs):
    np.testing.assert_allclose(spatial_coordinates(4, 4), theirs["coordinates"][0], atol=1e-6)
    sentence = read_sentence(theirs)
    assert relative_error(sentence.types[:, :4], theirs["types"][:, 0]) < 1e-5
    assert relative_error(sentence.necessary(), theirs["necessary"][:, 0, 0]) < 1e-5


@pytest.mark.parametrize("i", range(3))
def test_comprehension(theirs, i):
    params = {"params": level_params(theirs, LEVELS[i])}
    sentence = read_sentence(theirs)

    def run(module):
        return module(module.of_image(theirs[f"visual{i}"]), sentence, sentence.entities())

    ours = jax.jit(lambda p: Level(6, 5).apply(p, method=run))(params)
    assert relative_error(ours, theirs[f"fused{i}"]) < 1e-5


def test_exchange(theirs):
    params = {}
    for i, level in enumerate(LEVELS):
        for ours, name in (
            ("key", "spa_graph_key"),
            ("query", "lang_query"),
            ("context", "gv_lang"),
        ):
            params[f"{ours}{i}"] = linear(theirs, f"{name}_{level}gv_f1")
        for n, j in enumerate((j for j in range(3) if j != i), start=1):
            params[f"gate{i}_of{j}"] = linear(theirs, f"lang_feat_{level}_f{n}")
            params[f"take{i}_of{j}"] = linear(theirs, f"trans_feat_{level}_f{n}")
    levels = [theirs[f"fused{i}"] for i in range(3)]
    sentence = theirs["necessary"][:, 0, 0]
    ours = jax.jit(Exchange().apply)({"params": params}, levels, sentence)
    for i in range(3):
        assert relative_error(ours[i], unit(jnp.asarray(theirs[f"exchanged{i}"]))) < 1e-5


def test_conv_lstm(theirs):
    norms = ("candidate", "input", "forget", "output", "cell")
    params = {
        "gates": {"kernel": theirs["conv_lstm/kernel"][0, 0]},
        "peephole_input": theirs["conv_lstm/W_ci"],
        "peephole_forget": theirs["conv_lstm/W_cf"],
        "peephole_output": theirs["conv_lstm/W_co"],
        **{
            f"{name}_norm": norm(theirs, f"conv_lstm/LayerNorm{f'_{k}' if k else ''}")
            for k, name in enumerate(norms)
        },
    }
    maps = [theirs[f"map{i}"] for i in range(3)]
    ours = jax.jit(ConvLSTM(5).apply)({"params": params}, maps)
    assert relative_error(ours, theirs["hidden"]) < 1e-5


def test_words(theirs):
    kernel, bias = (theirs[f"RNN/basic_lstm_cell/{name}"] for name in ("kernel", "bias"))
    params = {
        "embed": {"embedding": theirs["vectors"][0]},
        "input": {"kernel": kernel[:3], "bias": bias},
        "state": {"kernel": kernel[3:]},
    }
    ours = LSTMEncoder(4, 3, 6).apply({"params": params}, np.arange(4)[None], np.array([4]))
    words = np.stack([theirs[f"word{t}"] for t in range(4)], axis=1)
    assert relative_error(ours.words, words) < 1e-5
