"""The fields of what goes beyond the paper: finer edges, better grounding. All are off by default.

They are a part of `lts_jax.configs.default.FIELDS`.
"""

from lts_jax.configs.fields import PROBABILITY, SHARE, Field, Scope, one_of, up_to, zero_to

NETWORK = Scope.NETWORK

BEYOND = {
    "model.attention_layers": Field(
        0,
        "of attention between the cells of F_m3's coarse half, before the locator; 0: none",
        zero_to(100),
        NETWORK,
    ),
    "model.attention_words": Field(
        False, "in each of model.attention_layers cells attend to words, too", scope=NETWORK
    ),
    "model.refine": Field(
        "none",
        "PointRend computes the segmenter's mask anew where it is uncertain, up to the input's "
        "size",
        one_of("none", "pointrend"),
        NETWORK,
    ),
    "model.refine_points": Field(
        4096,
        "of model.refine: points in each of its steps; in training a quarter as many",
        up_to(1_000_000),
        NETWORK,
    ),
    "train.location_loss": Field(
        "bce",
        "of the heatmap: L_loc of Eq. 12, which judges each cell by itself, or softmax "
        "cross-entropy over the cells, which has to choose among candidates",
        one_of("bce", "softmax"),
    ),
    "train.flip": Field(
        0.0,
        "chance of a training image to be mirrored, with left and right exchanged in its "
        "sentences; not where one of them, in English, cannot be translated",
        (SHARE,),
    ),
    "train.crop": Field(
        0.0,
        "chance of a training image to be cut to a part that shows its sentences' objects whole; "
        "sentences that the rest of the image makes true give their place to others about it",
        (SHARE,),
    ),
    "train.mask_words": Field(
        0.0,
        "share of a training sentence's words that become the unknown word, or BERT's [MASK]",
        (PROBABILITY,),
    ),
    "train.mask_patches": Field(
        0.0, "share of a training image's patches of 16 × 16 pixels that become gray", (SHARE,)
    ),
}
