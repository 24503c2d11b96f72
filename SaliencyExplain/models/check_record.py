"""Whether a model's predictions were compared with known ones, kept beside the bundle's files.

The record is no part of the model's identity: a model that was checked is the same model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from SaliencyExplain.errors import InputError
from SaliencyExplain.images.image_writing import atomic_file
from SaliencyExplain.json_fields import Fields, parse_object
from SaliencyExplain.models.bundle_settings import Setting

#: In a bundle.
FILE = "docs/check.json"
#: Name of the setting.
NAME = "checked"
_MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class CheckRecord:
    """A comparison of a model's predictions with known ones that agreed.

    Attributes:
        identity: Of the model.
        images: How many images were compared.
        largest_difference: Of a probability from the known one, in [0, 1].
    """

    identity: str
    images: int
    largest_difference: float


def check_setting(
    record: CheckRecord | None, identity: str, settings: Sequence[Setting]
) -> Setting:
    """The setting that says whether a model was checked.

    Args:
        record: What is kept beside the model; None: nothing is. One of another model does not
            count.
        identity: Of the model.
        settings: Its other settings; what is trained here needs no check.
    """
    if record is not None and record.identity == identity:
        images = f"{record.images} image{'s' if record.images > 1 else ''}"
        return Setting(
            NAME, f"{images}, largest difference {record.largest_difference:.2g}", "checked"
        )
    if any(one.source == "trained" for one in settings):
        return Setting(NAME, "trained with this preprocessing", "trained")
    return Setting(NAME, "never compared with known predictions", "unchecked")


def read_record(content: bytes) -> CheckRecord | None:
    """The record in a file's bytes; None where they are none."""
    try:
        fields: Fields = parse_object(content, FILE)
        return CheckRecord(
            fields.text("identity"),
            fields.integer("images", 1, _MOST_IMAGES),
            fields.number("largest_difference", 0, 1),
        )
    except InputError:
        return None


def write_record(bundle: Path, record: CheckRecord) -> None:
    """Writes the record into a bundle's folder, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    with atomic_file(bundle / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
