"""The settings of ``explain`` and ``study``, from a specification and the paths of the data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from SaliencyExplain.cli.messages import say_notes
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.specification.spec import ExplainSpec
from SaliencyExplain.studies.discovery import background_cases
from SaliencyExplain.studies.study_config import StudyConfig


def study_config(
    path: Path, classifier: Classifier, out: Path, spec: ExplainSpec, **more: Any
) -> StudyConfig:
    """The settings, with the cases of the specification's backgrounds.

    Backgrounds that were left out are printed.

    Args:
        path: The classifier's file or folder.
        classifier: The open classifier.
        out: The output folder.
        spec: What is computed.
        **more: Further fields of :class:`StudyConfig`.

    Raises:
        InputError: A background cannot be read.
    """
    config = StudyConfig(path, out, spec, **more)
    paths = [Path(one) for one in spec.references.backgrounds]
    backgrounds = background_cases(paths, classifier.channels, config.keep_identifiers)
    say_notes(backgrounds.sentences())
    return dataclasses.replace(config, backgrounds=tuple(backgrounds))
