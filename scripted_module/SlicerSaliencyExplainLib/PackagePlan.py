"""Packages in exact versions, as pip's report names them and as a requirements file pins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests


@dataclass(frozen=True)
class PackageToInstall:
    """A package in exactly one version.

    Attributes:
        name: As the package index names it.
        version: Exactly this one.
        bytes: Size of the download; None where the index does not say.
        sha256: Of the file; empty where the index does not say.
    """

    name: str
    version: str
    bytes: int | None
    sha256: str = ""


def packages_of(report: Mapping[str, Any]) -> tuple[PackageToInstall, ...]:
    """The packages of pip's installation report (its version 1), with sizes asked for.

    Args:
        report: Of ``pip install --dry-run --report``.
    """
    with ThreadPoolExecutor(8) as pool:
        return tuple(pool.map(_package, report["install"]))


def pins(plan: Sequence[PackageToInstall]) -> str:
    """The requirements file of exactly these; with hashes where all are known, as pip demands."""
    hashed = all(package.sha256 for package in plan)
    return "".join(
        f"{package.name}=={package.version}"
        + (f" --hash=sha256:{package.sha256}" if hashed else "")
        + "\n"
        for package in plan
    )


def _package(entry: Mapping[str, Any]) -> PackageToInstall:
    download = entry["download_info"]
    hashes = download.get("archive_info", {}).get("hashes", {})
    return PackageToInstall(
        name=entry["metadata"]["name"],
        version=entry["metadata"]["version"],
        bytes=_size(download["url"]),
        sha256=hashes.get("sha256", ""),
    )


def _size(url: str) -> int | None:
    """Size in bytes of what an address names; None where it is not said."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path)).stat().st_size
    try:
        answer = requests.head(url, allow_redirects=True, timeout=10)
        return int(answer.headers["Content-Length"]) if answer.ok else None
    except (requests.RequestException, KeyError, ValueError):
        return None
