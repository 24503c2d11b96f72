"""The settings of ``explain`` and ``study``, from a specification and where the data lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from SaliencyExplain.cli.messages import say_notes
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.specification.spec import ExplainSpec
from SaliencyExplain.study.discovery import background_cases
from SaliencyExplain.study.study_config import StudyConfig


def study_config(classifier: Path, out: Path, spec: ExplainSpec, **more: Any) -> StudyConfig:
    """The settings, with the cases of the specification's backgrounds.

    What was left out among the backgrounds is said.

    Args:
        classifier: Its file or folder.
        out: The output folder.
        spec: What is computed.
        **more: Further fields of :class:`StudyConfig`.

    Raises:
        InputError: A background or the classifier cannot be read.
    """
    config = StudyConfig(classifier, out, spec, **more)
    paths = [Path(one) for one in spec.references.backgrounds]
    channels = load_classifier(classifier, trust=config.trust).channels if paths else ()
    backgrounds = background_cases(paths, channels, config.keep_identifiers)
    say_notes(backgrounds.sentences())
    return StudyConfig(classifier, out, spec, **more, backgrounds=tuple(backgrounds))
