"""Builds the requested objects of a bundle's configuration."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml
from monai.bundle import ConfigParser

from SaliencyExplain.confinement import raise_denied
from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.checked import CheckedBuilder, check_size
from SaliencyExplain.models.targets import shown
from SaliencyExplain.models.torchvision_operators import with_torchvision

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
#: Integers below it have hashes of their own.
_LONGEST_KEY = 15
_MOST_MERGED = 100
_LARGEST_MERGED = 10_000


class _Loader(yaml.SafeLoader):
    """Builds plain values only, and refuses a key that stands twice in one mapping.

    Numbers are decimal, as in JSON: YAML's numbers of base 60 ("1:30:00") take a time that grows
    with the square of their length. They and dates are texts.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        first: [
            (tag, pattern)
            for tag, pattern in found
            if tag.rpartition(":")[2] not in ("int", "float", "timestamp")
        ]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node, as the base class makes it."""
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _refuse_duplicates([key.value for key in keys if key.value != "<<"])
        for key in keys:
            if key.tag.endswith(":int") and len(key.value) > _LONGEST_KEY:
                raise _wrong(key, "not a valid key of a mapping")
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolves the merges of a mapping ("<<"), whose size may double at every level."""
        for key, value in node.value:
            merges = key.tag == "tag:yaml.org,2002:merge" and isinstance(value, yaml.SequenceNode)
            if merges and len(value.value) > _MOST_MERGED:
                raise _wrong(key, f"followed by more than {_MOST_MERGED} mappings")
        super().flatten_mapping(node)
        if len(node.value) > _LARGEST_MERGED and node.value:
            raise _wrong(node.value[0][0], f"in a mapping of more than {_LARGEST_MERGED} keys")

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A decimal number."""
        text = str(self.construct_scalar(node))
        if _INTEGER.fullmatch(text):
            return float(text) if node.tag.endswith(":float") else int(text)
        if not _FLOAT.fullmatch(text) or node.tag.endswith(":int"):
            raise _wrong(node, "no decimal number")
        named = text.lower().endswith(("inf", "nan"))
        return float(text.replace(".", "") if named else text)

    def construct_truth(self, node: yaml.ScalarNode) -> bool:
        """True or false."""
        text = str(self.construct_scalar(node)).lower()
        if text not in _TRUTH:
            raise _wrong(node, "neither true nor false")
        return _TRUTH[text]

    def construct_text(self, node: yaml.ScalarNode) -> str:
        """The text as it stands."""
        return str(self.construct_scalar(node))


for _kind, _pattern in (("int", _INTEGER), ("float", _FLOAT)):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _whole = re.compile(f"(?:{_pattern.pattern})\\Z")
    _Loader.add_implicit_resolver(_tag, _whole, list("-+.0123456789"))
    _Loader.add_constructor(_tag, _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:bool", _Loader.construct_truth)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_text)


def parse_text(text: bytes, name: str) -> dict[str, Any]:
    """Reads JSON or YAML; no tag of YAML builds an object.

    Raises:
        ClassifierError: The text cannot be parsed, is no dictionary, has a key twice, or is
            nested too deeply.
    """
    try:
        if name.endswith(".json"):
            content = json.loads(text, object_pairs_hook=_without_duplicates)
        else:
            # A subclass of the safe loader.
            content = yaml.load(text, Loader=_Loader)
    except Exception as error:
        # The parsers may raise any exception for malformed texts.
        lines = str(error).splitlines() or [type(error).__name__]
        raise ClassifierError(
            ErrorCode.MODEL_CONFIGURATION, f"{name} cannot be parsed: {lines[0][:200]}"
        ) from error
    if not isinstance(content, dict):
        raise ClassifierError(ErrorCode.MODEL_CONFIGURATION, f"{name} does not hold a dictionary.")
    check_size(content, name)
    return content


class Configuration:
    """A bundle's ``inference`` configuration.

    Without trust only what is asked for is built, together with what it refers to, by
    :class:`SaliencyExplain.models.checked.CheckedBuilder`, which evaluates no expression.
    With trust MONAI's own parser reads the whole configuration and evaluates its Python
    expressions.

    Args:
        content: The parsed file.
        trust: Whether the user trusts the code in it.
        bundle_root: The bundle's folder, for trusted configurations that refer to it.
    """

    def __init__(self, content: dict[str, Any], *, trust: bool, bundle_root: str = "") -> None:
        self.content = dict(content)
        self.trust = trust
        if bundle_root:
            self.content["bundle_root"] = bundle_root

    def build(self, key: str) -> Any:
        """The object that a top-level key describes.

        Raises:
            ClassifierError: Something in it is not allowed without trust, or cannot be built.
        """
        try:
            with warnings.catch_warnings():
                # MONAI's warnings on new defaults are for authors of configurations.
                warnings.simplefilter("ignore", FutureWarning)
                if self.trust:
                    parser = ConfigParser(self.content)
                    return with_torchvision(lambda: parser.get_parsed_content(key))
                return CheckedBuilder(self.content).build(key)
        except ClassifierError:
            raise
        except Exception as error:
            raise_denied(error)
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            lines = str(cause).splitlines() or [type(cause).__name__]
            raise ClassifierError(
                ErrorCode.MODEL_CONFIGURATION, f"The bundle's '{key}' cannot be built: {lines[0]}"
            ) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_duplicates([name for name, _ in pairs])
    return dict(pairs)


def _wrong(node: yaml.ScalarNode, why: str) -> yaml.YAMLError:
    line = node.start_mark.line + 1
    return yaml.YAMLError(f"{shown(node.value)} in line {line} is {why}.")


def _refuse_duplicates(names: list[str]) -> None:
    name, times = next(iter(Counter(names).most_common(1)), ("", 0))
    if times > 1:
        raise ValueError(f"the key {shown(name)} occurs twice in the same mapping")
