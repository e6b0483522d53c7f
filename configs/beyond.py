"""Config fields beyond the paper, for finer edges and better grounding. All are off by default.

These fields are part of `lts_jax.configs.default.FIELDS`.
"""

from lts_jax.configs.fields import PROBABILITY, SHARE, Field, Scope, one_of, up_to, zero_to

NETWORK = Scope.NETWORK

BEYOND = {
    "model.attention_layers": Field(
        0,
        "number of attention layers over the cells of F_m3's coarse half, before the locator; "
        "0: none",
        zero_to(100),
        NETWORK,
    ),
    "model.attention_words": Field(
        False, "cells also attend to words in each of model.attention_layers", scope=NETWORK
    ),
    "model.refine": Field(
        "none",
        "pointrend: PointRend recomputes the segmenter's mask at uncertain points, up to the "
        "input's resolution",
        one_of("none", "pointrend"),
        NETWORK,
    ),
    "model.refine_points": Field(
        4096,
        "points per refinement step of model.refine; training uses a quarter of them",
        up_to(1_000_000),
        NETWORK,
    ),
    "train.location_loss": Field(
        "bce",
        "loss of the heatmap: bce is L_loc of Eq. 12 (each cell independently), softmax is "
        "cross-entropy over all cells (cells compete)",
        one_of("bce", "softmax"),
    ),
    "train.flip": Field(
        0.0,
        "probability of mirroring a training image and swapping left and right in its sentences; "
        "skipped if one of its sentences cannot be converted (English only)",
        (SHARE,),
    ),
    "train.crop": Field(
        0.0,
        "probability of cropping a training image around its sentences' objects; sentences that "
        "depend on the rest of the image are replaced by other sentences about the image",
        (SHARE,),
    ),
    "train.mask_words": Field(
        0.0,
        "fraction of a training sentence's words replaced by the unknown word, or BERT's [MASK]",
        (PROBABILITY,),
    ),
    "train.mask_patches": Field(
        0.0, "fraction of a training image's 16 × 16 pixel patches replaced by gray", (SHARE,)
    ),
}
