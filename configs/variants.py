"""The paper's variants: what each changes in a config of the full model, `lts`."""

from typing import Any

from ml_collections import ConfigDict

_NO_LOCATION_LOSS = {"train.location_weight": 0.0}

VARIANTS: dict[str, dict[str, Any]] = {
    "lts": {},
    # Table 2: what the parts are worth. The location loss comes last: Section 4.4 compares
    # filter_seg and fusion_seg with no_loc_loss (65.05), so both are without it.
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
    # Table 6: the input's side in pixels.
    **{f"size{n}": {"data.image_size": n} for n in (320, 352, 384, 416, 448, 480)},
    # Table 7: the best of all, LTS*.
    "star": {
        "model.locate": "transformer",
        "model.rounds": 2,
        "data.image_size": 480,
        "eval.batch_size": 16,  # attention of 3,600 cells to each other
    },
}


def apply_variant(config: ConfigDict, name: str) -> ConfigDict:
    """Changes the fields of `config` that make it the variant `name`, and returns it.

    Raises:
      ValueError: there is no such variant; the message lists those that there are.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}; the variants are {', '.join(VARIANTS)}")
    config.update_from_flattened_dict(VARIANTS[name])
    return config
