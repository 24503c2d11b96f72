"""``saliency-explain predict``."""

from __future__ import annotations

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import console, print_json, progress_bar, say_notes


def predict(
    images: options.Images,
    classifier: options.ClassifierPath,
    device: options.Device = "auto",
    series: options.Series = None,
    trust: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """Class probabilities of one image."""
    from SaliencyExplain.cli.terminal_tables import probability_table
    from SaliencyExplain.explanation.compute import Compute
    from SaliencyExplain.explanation.prepared_case import prepare
    from SaliencyExplain.models.inputs import read_input
    from SaliencyExplain.models.loading import load_classifier

    with progress_bar("predicting", quiet=as_json):
        loaded = load_classifier(classifier, trust=trust)
        image = read_input(loaded, [options.named_path(text) for text in images], series=series)
        case = prepare(image, loaded, compute=Compute(device))
    found = case.prediction
    notes = [*loaded.notes, *case.notes]
    say_notes(notes)
    document = {
        "image": image.meta["name"],
        "classifier": loaded.name,
        "classifier_sha256": loaded.identity,
        "predicted": found.predicted,
        "probabilities": dict(zip(found.classes, found.probabilities, strict=True)),
        "notes": notes,
    }
    if as_json:
        print_json(document)
        return
    console.print(probability_table(document["probabilities"]))
