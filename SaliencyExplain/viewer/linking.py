"""Two slice views that move together."""

from __future__ import annotations

from typing import Any

from vtkmodules.vtkCommonCore import vtkCommand


def link(first: Any, second: Any) -> None:
    """Lets two slice nodes of one orientation show the same place at the same zoom, always.

    Slicer's own linking also carries over the layers, and views of two maps differ in those.

    Args:
        first: A vtkMRMLSliceNode; the other one takes over where it stands.
        second: Another one.
    """
    busy = False

    def follow(leader: Any, follower: Any) -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        try:
            _copy_place(leader, follower)
        finally:
            busy = False

    first.AddObserver(vtkCommand.ModifiedEvent, lambda *_: follow(first, second))
    second.AddObserver(vtkCommand.ModifiedEvent, lambda *_: follow(second, first))
    follow(first, second)


def _copy_place(leader: Any, follower: Any) -> None:
    modified = follower.StartModify()
    follower.GetSliceToRAS().DeepCopy(leader.GetSliceToRAS())
    follower.UpdateMatrices()
    # Millimetres for a pixel are what a zoom is: the views may differ in size.
    across, down, _ = leader.GetDimensions()
    field = leader.GetFieldOfView()
    own = follower.GetDimensions()
    follower.SetFieldOfView(
        field[0] / max(across, 1) * own[0], field[1] / max(down, 1) * own[1], field[2]
    )
    follower.SetXYZOrigin(*leader.GetXYZOrigin())
    follower.EndModify(modified)
