"""The summary that a build prints."""

from pathlib import Path

from tfds_refcoco.inspection import fonts, overlaps
from tfds_refcoco.inspection.published import PUBLISHED
from tfds_refcoco.records.layout import build_path, read_build
from tfds_refcoco.records.reader import Dataset, open_dataset


def summary(data_dir: Path, dataset: str) -> str:
    """Returns a table with the counts of each split of a built dataset.

    `area ratio` is the smallest and largest ratio of mask pixels to COCO's area; a ratio far from 1
    means that masks and annotations do not match.
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
    info = read_build(built.path)
    if info["gray_images"]:
        lines.append(f"{info['gray_images']} images are gray")
    if lacking := fonts.missing(
        "".join({c for name in built.splits for c in _letters(built, name)})
    ):
        signs = "".join(sorted(lacking)[:20])
        lines.append(
            f"no installed font has {len(lacking)} characters, such as {signs}; {fonts.ADVICE}"
        )
    lines += info["notes"]
    if dataset == "custom":  # its pictures have not been checked by anyone else
        for finding in (overlaps.find_disjoint(built), overlaps.find_repeated(built)):
            lines += [f"WARNING: {text}" for text in finding.details]
    if skipped := info["skipped"]:
        lines.append(f"skipped {len(skipped)} invalid items, listed in {build_path(built.path)}")
        lines += [f"  {text}" for text in skipped[:5]]
    return "\n".join(lines)


def _letters(built: Dataset, split: str) -> set[str]:
    """Returns the characters of the sentences of a split."""
    return set().union(*built.split(split).index.text)
