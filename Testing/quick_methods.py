"""Methods of the registry with parameters that make them quick."""

from __future__ import annotations

import dataclasses

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.registry import find_method, methods

#: Values that keep the number of forward passes small on images of about 32 voxels along each
#: axis, by the name of the parameter. A method whose minimum is higher gets its minimum.
FEW = {
    "samples": 3,
    "steps": 3,
    "pairs": 2,
    "channels": 5,
    "window_mm": 16.0,
    "stride_mm": 16.0,
    "size_mm": 16.0,
}


def quick(name: str) -> Method:
    """The method of this name with few samples, steps, windows and regions."""
    kind = find_method(name)
    chosen = {
        field.name: max(FEW[field.name], field.metadata["minimum"])
        for field in dataclasses.fields(kind)
        if field.name in FEW and isinstance(field.default, (int, float))
    }
    return kind(**chosen)


def names(*, control_maps: bool = True, parameter: str = "", family: str = "") -> list[str]:
    """The names of all registered methods, or of those with a property.

    Args:
        control_maps: False: without the maps that no network takes part in.
        parameter: Only methods with this parameter, such as ``layers``.
        family: Only methods of this family, such as ``surrogate``.
    """
    return [
        name
        for name, kind in methods().items()
        if (control_maps or kind.family != "control")
        and (not parameter or parameter in {field.name for field in dataclasses.fields(kind)})
        and (not family or kind.family == family)
    ]
