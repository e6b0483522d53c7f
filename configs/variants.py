"""The paper's variants and ours: the fields that each changes in the full model, `lts`."""

from typing import Any

from ml_collections import ConfigDict

_NO_LOCATION_LOSS = {"train.location_weight": 0.0}
# The recipe of LAVT (Yang et al., CVPR 2022) for training a pretrained backbone with BERT.
_BERT = {
    "model.text": "bert",
    "model.text_weights": "hf://google-bert/bert-base-uncased",
    "model.backbone_width": 0,
    "model.backbone_stages": (),
    "model.dropout": 0.1,
    "model.drop_path": 0.3,
    "model.dtype": "bfloat16",
    "data.image_size": 480,
    "data.max_words": 22,
    "train.batch_size": 32,
    "train.epochs": 40.0,
    "train.learning_rate": 5e-5,
    "train.weight_decay": 0.01,
    "train.drop_epochs": (),
    "train.decay_power": 0.9,
    "train.clip_norm": 1.0,
    "eval.batch_size": 16,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "lts": {},
    # Table 2: ablation of the components. Section 4.4 compares filter_seg and fusion_seg with
    # no_loc_loss (65.05), so both are trained without the location loss.
    "fusion": {"model.locate": "none", "model.segment": False, **_NO_LOCATION_LOSS},
    "filter": {"model.fuse": False, "model.segment": False, **_NO_LOCATION_LOSS},
    "fusion_filter": {"model.segment": False, **_NO_LOCATION_LOSS},
    "fusion_seg": {"model.locate": "none", **_NO_LOCATION_LOSS},
    "filter_seg": {"model.fuse": False, **_NO_LOCATION_LOSS},
    "no_loc_loss": _NO_LOCATION_LOSS,
    # Tables 4 and 5: other locators.
    "transformer": {"model.locate": "transformer"},
    "filters2": {"model.rounds": 2},
    "filters3": {"model.rounds": 3},
    "word_filter": {"model.locate": "word_filter"},
    # Table 6: side of the input in pixels.
    **{f"size{n}": {"data.image_size": n} for n in (320, 352, 384, 416, 448, 480)},
    # Table 7: the best model, LTS*.
    "star": {
        "model.locate": "transformer",
        "model.rounds": 2,
        "data.image_size": 480,
        "eval.batch_size": 16,  # self-attention over 3,600 cells
    },
}

# Table 3: the segmenter on another network, CMPC (Huang et al., CVPR 2020), with its authors' sizes
# and schedule: 700,000 sentences with a batch size of one.
_CMPC = {
    "model.network": "cmpc",
    "model.text": "lstm",
    "model.gru_features": 1000,
    "model.backbone": "resnet101_dilated",
    "model.backbone_weights": "hf://microsoft/resnet-101",
    "model.backbone_width": 0,
    "model.backbone_stages": (),
    "model.coordinates": False,
    "model.fused_features": 500,
    "data.image_size": 320,
    "data.max_words": 20,
    "train.freeze": "backbone",
    "train.batch_size": 8,
    "train.epochs": 5.8,
    "train.learning_rate": 2.5e-4,
    "train.weight_decay": 5e-4,
    "train.drop_epochs": (),
    "train.decay_power": 0.9,
    "eval.batch_size": 16,
    "eval.threshold": 0.5,
}
TABLE_3: dict[str, dict[str, Any]] = {
    "cmpc": {**_CMPC, "model.segment": False, "train.location_weight": 0.0},
    "cmpc_seg": _CMPC,
}

OURS: dict[str, dict[str, Any]] = {
    # Darknet53 pretrained without any RefCOCO image; timm's weights have no neck.
    "imagenet": {
        "model.backbone_weights": "hf://timm/darknet53.c2ns_in1k",
        "model.backbone_conventions": "timm",
        "model.neck": False,
    },
    # Newer backbones and text encoders.
    "convnext_bert": {
        **_BERT,
        "model.backbone": "convnext_base",
        "model.backbone_weights": "hf://facebook/convnext-base-224-22k",
    },
    "swin_bert": {
        **_BERT,
        "model.backbone": "swin_base_window12",
        "model.backbone_weights": "hf://microsoft/swin-base-patch4-window12-384-in22k",
    },
}


BEYOND: dict[str, dict[str, Any]] = {
    # Finer edges and better grounding, one change each; see `lts tables --table beyond`.
    "pointrend": {"model.refine": "pointrend"},
    "masked": {"train.mask_words": 0.15, "train.mask_patches": 0.15},
    "flip": {"train.flip": 0.5},
    "crop": {"train.crop": 0.3},
    "softmax": {"train.location_loss": "softmax"},
    "attention": {"model.attention_layers": 2},
    "attention_words": {"model.attention_layers": 2, "model.attention_words": True},
}


def apply_variant(config: ConfigDict, name: str) -> ConfigDict:
    """Applies the variant `name` to `config` in place, and returns it.

    Raises:
      ValueError: the variant is unknown; the message lists all variants.
    """
    variants = VARIANTS | TABLE_3 | OURS | BEYOND
    if name not in variants:
        raise ValueError(f"unknown variant {name!r}; choose one of {', '.join(variants)}")
    config.update_from_flattened_dict(variants[name])
    return config
