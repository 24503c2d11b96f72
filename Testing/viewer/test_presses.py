"""A press is done once, however often a page has to say it."""

from __future__ import annotations

from trame_server import Server

from SaliencyExplain.viewer.presses import Presses


def test_a_press_that_is_said_again_is_not_done_again() -> None:
    server = Server(name="presses")
    done: list[tuple[int, str]] = []
    server.trigger("open_case")(lambda number, how="": done.append((number, how)))
    presses = Presses(server)
    presses.press("one", "open_case", [3], {"how": "row"})
    presses.press("one", "open_case", [3], {"how": "row"})
    assert done == [(3, "row")]
    presses.press("two", "open_case", [3], {})
    assert done == [(3, "row"), (3, "")]
    # A page may have been made by another version: what is not there does nothing.
    presses.press("three", "no_such_trigger", [], {})
    assert done == [(3, "row"), (3, "")]


def test_what_a_page_has_left_of_another_viewer_is_not_taken_for_this_ones() -> None:
    one, other = Server(name="one viewer"), Server(name="another viewer")
    Presses(one)
    Presses(other)
    assert one.state.viewer != other.state.viewer
