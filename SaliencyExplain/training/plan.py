"""Checks whether an unfinished training has the requested settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_text import json_text

PLAN = "plan.json"


def begun(work: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plan of a training that was stopped after its images were read.

    Args:
        work: The training's folder.
        wanted: What is to be trained: ``settings``, and the digest of the ``cases``.

    Returns:
        None where there is none.

    Raises:
        InputError: It is the plan of another training; the message says what differs.
    """
    if not (work / PLAN).is_file():
        return None
    plan: dict[str, Any] = json.loads((work / PLAN).read_text(encoding="utf-8"))
    different = differences(plan, wanted)
    if different:
        raise InputError(
            ErrorCode.STUDY_CONFIGURATION,
            f"{work}: it holds an unfinished training with other {different}. Delete it, or name "
            "another bundle with --out.",
        )
    return plan


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Names of the settings that differ, for a message; empty where none do."""
    before, now = old.get("settings", {}), json.loads(json_text(new["settings"]))
    names = [name.replace("_", " ") for name in now if before.get(name) != now[name]]
    return ", ".join([*names, *(["images"] if old.get("cases") != new["cases"] else [])])
