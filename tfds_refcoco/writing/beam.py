"""Shards written by Apache Beam's workers (extra `beam`).

Beam transfers only paths: a worker reads a shard's plan from disk and writes its result next to it.
Raw files and output must therefore have the same path on every worker.
"""

import dataclasses
import importlib
import json
import shlex
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import RawFile
from tfds_refcoco.raw.types import RawImage, RawObject, RawSentence
from tfds_refcoco.writing.shards import Plan, Written, write_shard

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def parse_options(text: str) -> "PipelineOptions":
    """Parses Beam options such as `--runner=FlinkRunner --parallelism=8`.

    Raises:
      DataError: Beam is not installed, or an option is invalid.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise DataError(
            f"--beam: Apache Beam cannot be imported ({error}); run pip install 'lts_jax[beam]'."
        ) from error
    try:
        options = PipelineOptions(shlex.split(text))
        options.get_all_options()  # parses the values; exits if one is invalid
        return options
    except (ValueError, SystemExit) as error:
        raise DataError(f"--beam: invalid Beam options {text!r} ({error}).") from error


def write_shards(plans: list[Plan], options: "PipelineOptions") -> list[Written]:
    """Writes all shards in one pipeline, with plan and result files next to them.

    Raises:
      DataError: an item is invalid and not skipped, or the pipeline fails.
    """
    # Typed as Any: Beam is optional, and its transforms have no type hints.
    beam: Any = importlib.import_module("apache_beam")
    places = [plan.path.with_suffix(".plan") for plan in plans]
    for plan, place in zip(plans, places, strict=True):
        place.write_text(json.dumps(dataclasses.asdict(plan), default=str))
    try:
        with beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | "plans" >> beam.Create([str(place) for place in places])
                | "spread" >> beam.Reshuffle()
                | "write" >> beam.Map(write_planned)
            )
    except Exception as error:  # runners raise any type
        raise DataError(f"--beam: the pipeline failed: {error}") from error
    return [_read_result(place) for place in places]


def write_planned(place: str) -> None:
    """Writes the shard of the plan at `place`, and its result or error to a file next to it.

    Retries and concurrent attempts write the same bytes.
    """
    plan = read_plan(Path(place))
    mine = plan.path.with_suffix(f".{uuid.uuid4().hex}")
    try:
        result = dataclasses.asdict(write_shard(dataclasses.replace(plan, path=mine)))
        if result["records"]:
            mine.replace(plan.path)
        result["path"] = plan.path
    except (DataError, OSError) as error:  # if raised, Beam would retry and hide the message
        skippable = isinstance(error, DataError) and error.skippable
        result = {"error": str(error), "skippable": skippable}
    Path(place).with_suffix(".result").write_text(json.dumps(result, default=str))


def _read_result(place: Path) -> Written:
    result = json.loads(place.with_suffix(".result").read_text())
    if "error" in result:
        error = DataError(result["error"])
        error.skippable = result["skippable"]
        raise error
    return Written(**result | {"path": Path(result["path"])})


def read_plan(place: Path) -> Plan:
    """Reads a plan that `write_shards` wrote."""
    plan = json.loads(place.read_text())
    images = tuple(_image(**row) for row in plan["images"])
    return Plan(**plan | {"path": Path(plan["path"]), "images": images})


def _image(
    file: dict[str, Any],
    objects: list[dict[str, Any]],
    sentences: list[dict[str, Any]],
    formats: list[str],
    **rest: Any,
) -> RawImage:
    # JSON has no tuples.
    return RawImage(
        file=RawFile(Path(file["path"]), file["member"]),
        objects=tuple(RawObject(**row | {"bbox": tuple(row["bbox"])}) for row in objects),
        sentences=tuple(
            RawSentence(**row | {"targets": tuple(row["targets"])}) for row in sentences
        ),
        formats=tuple(formats),
        **rest,
    )
