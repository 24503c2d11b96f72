"""Parses the names of a study folder's files: image or mask, and of which case."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.file_suffixes import PICTURE_SUFFIXES, plugin_suffixes, suffix_of
from SaliencyExplain.plain_text import some_of

#: Files that lie in study folders and are neither images nor DICOM.
_OTHER_SUFFIXES = (
    *(".md", ".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".xlsx"),
    *(".bval", ".bvec", ".py", ".zip", ".gz", ".raw", ".zraw", ".npy", ".npz", ".mat", ".pt"),
    *(".xls", ".doc", ".docx", ".ppt", ".pptx", ".odt", ".ods", ".rtf", ".ini", ".db", ".log"),
    *(".tar", ".7z", ".rar", ".sh", ".ipynb", ".h5", ".hdf5", ".pkl", ".mp4", ".avi", ".lnk"),
)
_OTHER_NAMES = ("DICOMDIR", "README", "LICENSE", "CHANGES")
#: Names of the parts of a split in tables and folders, each with the name used here.
PART_NAMES = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "ts", "held-out", "held out", "holdout"), "test"),
}
#: 3D Slicer names segmentations ``*.seg.nrrd``.
_SLICER_SEGMENTATION = ".seg"
#: Words that make a file a segmentation wherever they stand in its name.
MASK_WORDS = frozenset(
    {"mask", "masks", "msk", "label", "labels", "lbl", "labelmap", "labelmaps", "dseg", "probseg"}
    | {"seg", "segs", "segm", "segmentation", "segmentations", "segmented", "segmap"}
    | {"gt", "gts", "groundtruth", "groundtruths", "goldstandard"}
)
#: Words that name what is outlined. Images bear them too (a class folder of ``tumour_1.png``):
#: they make a file a segmentation only beside the image of its name.
WEAK_MASK_WORDS = frozenset(
    {"lesion", "lesions", "tumour", "tumor", "tumours", "tumors", "roi", "rois", "contour"}
    | {"contours", "annotation", "annotations", "annot", "gtv", "ctv", "ptv", "infarct", "truth"}
)
IMAGE_WORDS: frozenset[str] = frozenset(
    {"image", "images", "img", "imgs", "volume", "volumes", "scan", "scans", "input", "inputs"}
)
#: Two words for a segmentation, which may be written as one.
TWO_WORDS = re.compile(r"(ground|gold)[_\-. ]?(truth|standard)", re.IGNORECASE)
#: What stands between the words of a name.
SEPARATORS = "_-. "
_SEPARATORS = re.compile(r"([_\-. ]+)")
_WORD_AND_NUMBER = re.compile(r"([^\W\d_]+)(\d+)")


@dataclass(frozen=True)
class Name:
    """A parsed file name.

    Attributes:
        path: The file.
        key: What is left without the word for image or mask; image and mask of one
            key belong together. Empty for a file named ``seg`` or ``image`` alone.
        is_mask: Whether the name says that it is a segmentation.
        others: Further keys that it may have: ``a_mask_1`` is a mask of ``a``, the first of
            several, or of ``a_1``.
        weak: The word names what is outlined, which images may be named after as well.
    """

    path: Path
    key: str
    is_mask: bool
    others: tuple[str, ...] = ()
    weak: bool = False

    @property
    def keys(self) -> list[str]:
        """All keys as they are compared: without regard to case and to how accents are stored."""
        return list(dict.fromkeys(same_key(key) for key in (self.key, *self.others)))


def same_key(text: str) -> str:
    """The text as names are compared: macOS stores ``é`` as two characters, others as one."""
    return unicodedata.normalize("NFC", text).casefold()


def word_starts(key: str) -> list[str]:
    """What a key begins with before each of its separators, the longest first."""
    return [key[:place] for place in range(len(key) - 1, 0, -1) if key[place] in SEPARATORS]


def csv_advice(columns: Iterable[str] = ("image",)) -> str:
    """Advice to write a CSV of cases, as the end of a message."""
    header = ",".join(("case", *columns, "segmentation", "label"))
    return f"Write a CSV with the columns {header} that lists which files belong together."


def image_suffix(path: Path) -> str:
    """The file's image suffix in lower case, such as ``.nii.gz``; empty for other files.

    Suffixes that plugins read are among them, but for those such as ``.mat`` of which most files
    in study folders hold something else.
    """
    suffix = suffix_of(path)
    return "" if suffix in plugin_suffixes() and is_other_file(path) else suffix


def is_picture(path: Path) -> bool:
    """Whether the file is an image of two axes by its name."""
    return image_suffix(path) in PICTURE_SUFFIXES


def stem(path: Path) -> str:
    """The file's name without its image suffix, and without ``.seg`` before it."""
    name = path.name[: len(path.name) - len(image_suffix(path))]
    return name[: -len(_SLICER_SEGMENTATION)] if _is_slicer_segmentation(path) else name


def _is_slicer_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(f"{_SLICER_SEGMENTATION}.nrrd")


def is_other_file(path: Path) -> bool:
    """Whether the name says that this is neither an image nor DICOM."""
    return path.suffix.lower() in _OTHER_SUFFIXES or path.name in _OTHER_NAMES


def natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Sort key that puts ``case 2`` before ``case 10``."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple(
        # Digits of other scripts and numbers of thousands of digits are ordered as text.
        (int(part), part) if part.isascii() and part.isdigit() and len(part) < 100 else (-1, part)
        for part in parts
    )


def parse_name(path: Path) -> Name:
    """Parses a file name: ``P1_t1_image``, ``P1_t1_mask_2``, ``seg-expert``, ``mask7``."""
    whole = stem(path)
    words = _SEPARATORS.split(TWO_WORDS.sub(r"\1\2", whole))
    found = _mask_name(path, words, MASK_WORDS)
    if found is not None:
        return found
    if _is_slicer_segmentation(path):
        return Name(path, whole, True)
    weak = _mask_name(path, words, WEAK_MASK_WORDS, ends_only=True)
    if weak is not None:
        return Name(path, weak.key, True, weak.others, weak=True)
    return _image_name(path, whole, words)


def as_mask(name: Name) -> Name:
    """The name of a file that lies in a folder of segmentations."""
    return Name(name.path, name.key, True, (*name.others, stem(name.path)))


def as_image(name: Name) -> Name:
    """The name of a file that is not a segmentation, although its name fits one."""
    whole = stem(name.path)
    return _image_name(name.path, whole, _SEPARATORS.split(whole))


def _mask_name(
    path: Path, words: list[str], known: frozenset[str], *, ends_only: bool = False
) -> Name | None:
    """The parsed name, by its last known word; None: it has none."""
    places = [0, len(words) - 1] if ends_only else range(0, len(words), 2)
    for place in sorted(set(places), reverse=True):
        word = words[place].lower()
        number = ""
        together = _WORD_AND_NUMBER.fullmatch(word)
        if together and together[1] in known:
            word, number = together[1], together[2]
        if word not in known:
            continue
        before, after = words[: max(place - 1, 0)], words[place + 2 :]
        if place == 0 and not number:
            return Name(path, "".join(after), True)
        if place == 0:
            return Name(path, "".join([number, *words[1:2], *after]), True)
        # 'a_mask_2' is the second mask of 'a' or a mask of 'a_2'; 'a_mask_final' one of 'a'.
        rest = "".join(after) or number
        base = "".join(before)
        others = [f"{base}{words[place - 1]}{rest}"] if rest else []
        # 'a_lesion_mask' is one of 'a_lesion' or of 'a'.
        if len(before) > 2 and before[-1].lower() in WEAK_MASK_WORDS | MASK_WORDS:
            others.append("".join(before[:-2]))
        return Name(path, base, True, tuple(others))
    return None


def _image_name(path: Path, whole: str, words: list[str]) -> Name:
    last, first = words[-1].lower(), words[0].lower()
    if last in IMAGE_WORDS:
        return Name(path, "".join(words[:-2]), False, (whole,))
    if first in IMAGE_WORDS:
        return Name(path, "".join(words[2:]), False, (whole,))
    together = _WORD_AND_NUMBER.fullmatch(first)
    if together and together[1] in IMAGE_WORDS:
        return Name(path, whole, False, ("".join([together[2], *words[1:]]),))
    inner = next((n for n in range(2, len(words) - 1, 2) if words[n].lower() in IMAGE_WORDS), 0)
    if inner:
        return Name(path, whole, False, ("".join([*words[: inner - 1], *words[inner + 1 :]]),))
    return Name(path, whole, False)


def ambiguous(where: str, found: Iterable[Path], question: str) -> InputError:
    """The error for files that discovery cannot assign to cases."""
    files: Sequence[Path] = list(found)
    names = some_of([path.name for path in files], 8)
    return InputError(
        ErrorCode.CASES_LAYOUT, f"{where}: {question} (found: {names}). {csv_advice()}"
    )
