"""Published numbers, to compare a build with."""

# Sentences of each split; the totals of RefCOCO and RefCOCO+ are 142,210 and 141,564.
SENTENCES: dict[str, dict[str, int]] = {
    "refcoco_unc": {"train": 120_624, "val": 10_834, "testA": 5_657, "testB": 5_095},
    "refcocoplus_unc": {"train": 120_191, "val": 10_758, "testA": 5_726, "testB": 4_889},
}
