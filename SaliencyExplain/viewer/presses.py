"""A press of the page is done once, also where a connection was lost on the way."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Any

from trame_server import Server

#: A page says again only what had no answer when its connection was lost.
_REMEMBERED = 512


class Presses:
    """Does what the page's buttons, keys and rows ask for, each press once.

    A connection that dies swallows what was said last, or its answer. The page that comes back
    says again what was not answered; by the press's name it is known whether it was done.
    """

    def __init__(self, server: Server) -> None:
        self._controller = server.controller
        self._done: deque[str] = deque(maxlen=_REMEMBERED)
        # What a page has left from another viewer must not be done by this one.
        server.state.viewer = secrets.token_hex(8)
        server.trigger("press")(self.press)

    def press(self, press: str, trigger: str, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Does a press, unless it was done before.

        Args:
            press: Its name, which no other press has.
            trigger: What it triggers.
            arguments: Of the trigger.
            named: Likewise.
        """
        if press in self._done:
            return None
        self._done.append(press)
        function = self._controller.trigger_fn(trigger)
        return None if function is None else function(*arguments, **named)
