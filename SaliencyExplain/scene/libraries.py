"""Whether Slicer's libraries are there; the other modules here cannot be imported without."""

from __future__ import annotations

from SaliencyExplain.errors import ErrorCode, InputError


def check_libraries() -> None:
    """Finds out whether scenes can be made by this Python.

    Raises:
        InputError: Slicer's libraries are not installed.
    """
    advice = (
        "A scene needs the libraries of 3D Slicer: pip install '.[scene]' in the project's folder."
    )
    try:
        import slicer
    except ImportError as error:
        raise InputError(ErrorCode.PACKAGE_MISSING, advice) from error
    # The package "slicer" of another project has the same name.
    if not hasattr(slicer, "vtkMRMLScene"):
        raise InputError(
            ErrorCode.PACKAGE_MISSING,
            f"{advice} Here, another package named 'slicer' stands in its place.",
        )
