"""SaliencyExplain: which voxels made the classifier say so, and are they the tumour?

>>> import SaliencyExplain as se
>>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
>>> model = se.load_model("demo:phantom-2d-honest")
>>> result = se.explain(phantom.image, model, [se.GradCAM(), se.Occlusion(window_mm=16)])
>>> result[0].values.shape, result.target_name
((184, 224), 'glioma-like')

Instead of the phantom an image of your own (a path, a MetaTensor, a nibabel or SimpleITK image, or
an array with its affine), and instead of the shipped model ``se.Model(network, classes=[...])``.
There is a class for each method (``se.GradCAM``); ``dir(se)`` lists them.

Importing the package imports neither torch nor numpy: the names are looked up when they are used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

#: Where the public names are defined; the methods' classes are found by the registry. Types are
#: in ``__init__.pyi``.
PUBLIC_MODULES = {
    "Attribution": "results.attribution_map",
    "Classifier": "models.classifier",
    "Comparison": "comparison.map_comparison",
    "ExplainedMap": "api.explained_maps",
    "Explanation": "results.image_explanation",
    "Model": "models.network_in_memory",
    "Probe": "probe_result",
    "Result": "api.explaining",
    "SaliencyExplainError": "errors",
    "Target": "specification.target",
    "attribute": "api.tensors",
    "check_model": "api.checking",
    "compare": "api.comparing",
    "draw_phantom": "demo.phantoms",
    "evaluate": "api.comparing",
    "explain": "api.explaining",
    "load_model": "api.model_arguments",
    "predict": "api.explaining",
    "probe": "api.clicking",
    "read_image": "images.reading",
    "read_segmentation": "images.segmentation",
    "study": "api.study_run",
}


def __getattr__(name: str) -> Any:
    if name in PUBLIC_MODULES:
        found = getattr(importlib.import_module(f"{__name__}.{PUBLIC_MODULES[name]}"), name)
    elif name.startswith("_") or not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        methods = importlib.import_module(f"{__name__}.api.method_arguments").method_classes()
        if name not in methods:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = methods[name]
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    methods = importlib.import_module(f"{__name__}.api.method_arguments").method_classes()
    return sorted({*globals(), *PUBLIC_MODULES, *methods})
