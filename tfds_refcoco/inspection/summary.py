"""What a build prints of the set it has built."""

from pathlib import Path

from tfds_refcoco.inspection import fonts, overlaps
from tfds_refcoco.inspection.published import PUBLISHED
from tfds_refcoco.records.layout import build_path, read_build
from tfds_refcoco.records.reader import Dataset, open_dataset


def summary(data_dir: Path, dataset: str) -> str:
    """Returns a table of what each split of a built set holds.

    `area ratio` is the smallest and largest number of mask pixels divided by COCO's area; far from
    1 means that masks and annotations do not belong together.
    """
    built = open_dataset(data_dir, dataset)
    lines = [f"{'split':<8}{'images':>9}{'refs':>9}{'sentences':>11}{'published':>11}   area ratio"]
    for name in (*built.splits, "+".join(built.splits)):
        counts = built.split(name).counts
        known = PUBLISHED.get(dataset, {}).get(name)
        published = known.sentences if known and known.sentences else "-"
        label = name if name in built.splits else "total"
        lines.append(
            f"{label:<8}{counts.images:>9}{counts.refs:>9}{counts.sentences:>11}{published:>11}"
            f"   {counts.area_ratio_min:.3f} to {counts.area_ratio_max:.3f}"
        )
    said = read_build(built.path)
    if said["gray_images"]:
        lines.append(f"{said['gray_images']} images are gray")
    if lacking := fonts.missing(
        "".join({c for name in built.splits for c in _letters(built, name)})
    ):
        signs = "".join(sorted(lacking)[:20])
        lines.append(
            f"no font of this machine has {len(lacking)} characters, as {signs}; {fonts.ADVICE}"
        )
    lines += said["notes"]
    if dataset == "custom":  # nobody else has looked at its pictures
        for finding in (overlaps.find_disjoint(built), overlaps.find_repeated(built)):
            lines += [f"WARNING: {text}" for text in finding.details]
    if skipped := said["skipped"]:
        lines.append(f"left out: {len(skipped)} faulty items, listed in {build_path(built.path)}")
        lines += [f"  {text}" for text in skipped[:5]]
    return "\n".join(lines)


def _letters(built: Dataset, split: str) -> set[str]:
    """Returns the characters of the sentences of a split."""
    return set().union(*built.split(split).index.text)
