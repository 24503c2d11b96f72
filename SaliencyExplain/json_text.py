"""JSON for people and programs: undefined figures are null, numpy's numbers are numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from SaliencyExplain.plain_text import json_escaped


def json_text(document: Any) -> str:
    """The document as indented JSON that ends with a line break.

    Args:
        document: Mappings, sequences, text, numbers (numpy's too), None. What is not
            finite becomes null, what is nothing of these its text. Characters that act on a
        terminal, and halves of characters out of file names, are escaped.
    """
    text = json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    return json_escaped(text) + "\n"


def plain(value: Any) -> Any:
    """The value as JSON reads it back: lists for tuples, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
