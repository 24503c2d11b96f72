"""Building the objects that a bundle's configuration describes, and nothing else of it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Hashable
from typing import Any

import yaml
from monai.bundle import ConfigParser

from SaliencyExplain.classifiers.checked import CheckedBuilder, check_size
from SaliencyExplain.classifiers.targets import shown
from SaliencyExplain.classifiers.torchvision_operators import with_torchvision
from SaliencyExplain.confinement import raise_denied
from SaliencyExplain.errors import ClassifierError, ErrorCode


class _Loader(yaml.SafeLoader):
    """Builds plain values only, and refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node, as the base class makes it."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _refuse_duplicates([name for name in names if name != "<<"])
        return super().construct_mapping(node, deep=deep)


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
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
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
    :class:`SaliencyExplain.classifiers.checked.CheckedBuilder`, which evaluates no expression.
    With trust MONAI's own parser sees the whole configuration, with its Python expressions.

    Args:
        content: The parsed file.
        trust: Whether the user vouches for the code in it.
        bundle_root: The bundle's folder, for trusted configurations that ask for it.
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
                # MONAI announces new defaults to whoever writes a configuration.
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


def _refuse_duplicates(names: list[str]) -> None:
    name, times = next(iter(Counter(names).most_common(1)), ("", 0))
    if times > 1:
        raise ValueError(f"the key {shown(name)} stands twice in the same place")
