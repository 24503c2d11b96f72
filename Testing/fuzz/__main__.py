"""``python -m Testing.fuzz --files 100000 --seed 1``: damages files and says what readers do."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from Testing.fuzz.fuzzer import Result, fuzz, write


def main() -> int:
    """Runs the fuzzer; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m Testing.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=5000, help="how many damaged files")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0, help="of all randomness")
    parser.add_argument(
        "--only", default="", help="part of a good file's name, as 'a.nrrd' or 'image'"
    )
    parser.add_argument("--write", type=Path, help="write the first file to this folder, and end")
    asked = parser.parse_args()
    numbers = range(asked.first, asked.first + asked.files)
    if asked.write is not None:
        from Testing.fuzz.seeds import all_seeds

        with tempfile.TemporaryDirectory() as folder:
            seeds = [
                one
                for one in all_seeds(Path(folder))
                if asked.only in f"{one.name} as {one.reader}"
            ]
        print(write(seeds[asked.first % len(seeds)], asked.first, asked.seed, asked.write))
        return 0
    started = time.perf_counter()
    shown = 0

    def tell(result: Result) -> None:
        nonlocal shown
        for finding in result.findings[shown:]:
            print(
                f"\n{finding.number} {finding.seed}: {finding.what}\n{finding.details}", flush=True
            )
        shown = len(result.findings)
        if result.files % 5000 == 0:
            print(f"{result.files} files, {time.perf_counter() - started:.0f} s", flush=True)

    result = fuzz(numbers, seed=asked.seed, only=asked.only, tell=tell)
    tell(result)
    read, refused = sum(result.read.values()), sum(result.refused.values())
    for name in sorted(result.read | result.refused):
        print(f"{name}: {result.read[name]} read, {result.refused[name]} refused")
    print(
        f"{result.files} files in {time.perf_counter() - started:.0f} s: {read} read, {refused} "
        f"refused, {len(result.findings)} found"
    )
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
