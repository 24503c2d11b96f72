"""``saliency-explain predict``."""

from __future__ import annotations

import dataclasses
from typing import Any

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
    """Class probabilities of one image; for a segmentation network the size of each class."""
    from SaliencyExplain.cli.terminal_tables import probability_table, size_table
    from SaliencyExplain.explanation.compute import Compute
    from SaliencyExplain.explanation.prepared_case import prepare
    from SaliencyExplain.explanation.region_case import predict_sizes
    from SaliencyExplain.models.inputs import read_input
    from SaliencyExplain.models.loading import load_classifier

    with progress_bar("predicting", quiet=as_json) as progress:
        loaded = load_classifier(classifier, trust=trust)
        image = read_input(loaded, [options.named_path(text) for text in images], series=series)
        if loaded.windows is not None:
            sizes, said = predict_sizes(image, loaded, device=device, progress=progress)
            found: dict[str, Any] = {"sizes": {one.name: dataclasses.asdict(one) for one in sizes}}
            table = size_table(sizes)
        else:
            case = prepare(image, loaded, compute=Compute(device))
            prediction, said = case.prediction, case.notes
            probabilities = dict(zip(prediction.classes, prediction.probabilities, strict=True))
            found = {"predicted": prediction.predicted, "probabilities": probabilities}
            table = probability_table(probabilities)
    notes = [*loaded.notes, *said]
    say_notes(notes)
    if as_json:
        print_json(
            {
                "image": image.meta["name"],
                "classifier": loaded.name,
                "classifier_sha256": loaded.identity,
                **found,
                "notes": notes,
            }
        )
        return
    console.print(table)
