"""Check for Slicer's libraries, which the other modules of this package need to be imported."""

from __future__ import annotations

from SaliencyExplain.errors import ErrorCode, InputError


def check_libraries() -> None:
    """Checks that this Python can create scenes.

    Raises:
        InputError: Slicer's libraries are not installed.
    """
    advice = (
        "Scene: the libraries of 3D Slicer are not installed. Run pip install '.[scene]' in the "
        "project's folder."
    )
    try:
        import slicer
    except ImportError as error:
        raise InputError(ErrorCode.PACKAGE_MISSING, advice) from error
    # Another project has a package "slicer" as well.
    if not hasattr(slicer, "vtkMRMLScene"):
        raise InputError(
            ErrorCode.PACKAGE_MISSING,
            f"{advice} Another package named 'slicer' is installed; uninstall it first.",
        )
