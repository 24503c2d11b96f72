"""Starting, watching and losing an engine in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from SlicerSaliencyExplainLib.BackgroundCalls import BackgroundCalls
from SlicerSaliencyExplainLib.EngineConnection import (
    EngineChoice,
    EngineConnection,
    choice_from_environment,
    choice_from_text,
)

from Testing.waiting import until

from .conftest import COMMAND, Server

pytestmark = pytest.mark.server


class Watched:
    """A connection and the states that it went through."""

    def __init__(self) -> None:
        self.calls = BackgroundCalls()
        self.connection = EngineConnection(self.calls)
        self.states: list[str] = []
        self.connection.changed = lambda: self.states.append(self.connection.state)

    def wait(self, ready: Callable[[], Any]) -> None:
        until(lambda: self.calls.deliver() or ready(), self.states, pause=0.002)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.connection.stop()
    watched.wait(lambda: not watched.calls.outstanding)
    watched.calls.close()


def test_reads_a_command_or_an_address(tmp_path: Path) -> None:
    program = tmp_path / "with space" / "saliency-explain"
    program.parent.mkdir()
    program.touch()
    assert choice_from_text(str(program)).command == (str(program),)
    assert choice_from_text("python -m SaliencyExplain").command == (
        "python", "-m", "SaliencyExplain",
    )  # fmt: skip
    server = choice_from_text(" https://host:8000 ", "/token")
    assert (server.command, server.address, server.token_file) == (
        (), "https://host:8000", "/token",
    )  # fmt: skip
    named = {"SALIENCY_EXPLAIN_ENGINE": "http://h:1", "SALIENCY_EXPLAIN_TOKEN_FILE": "/t"}
    assert choice_from_environment(named) == EngineChoice(address="http://h:1", token_file="/t")
    assert choice_from_environment({}) is None


def test_a_killed_engine_is_lost_once(watched: Watched) -> None:
    connection = watched.connection
    choice = EngineChoice((str(COMMAND),), dict(os.environ))
    ready: list[int] = []
    connection.start(choice, lambda: ready.append(1))
    connection.when_ready(lambda: ready.append(2))
    watched.wait(lambda: connection.state == "ready")
    assert ready == [1, 2]
    assert connection.about.trusts
    assert connection.about.data
    os.kill(connection._process._process.pid, signal.SIGKILL)
    watched.wait(lambda: connection.state == "lost")
    for _ in range(20):
        watched.calls.deliver()
    assert watched.states == ["starting", "ready", "lost"]
    assert connection.engine is None
    assert "start it again" in connection.failure.line


def test_a_command_that_is_none_fails_in_one_line(watched: Watched) -> None:
    watched.connection.start(EngineChoice(("/no/such/program",)))
    watched.wait(lambda: watched.connection.failure)
    assert watched.connection.state == "off"
    assert "/no/such/program" in watched.connection.failure.line


def test_a_command_that_ends_at_once_says_its_last_words(watched: Watched, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 'error: no such thing' >&2\nexit 1\n")
    program.chmod(0o755)
    watched.connection.start(EngineChoice((str(program),)))
    watched.wait(lambda: watched.connection.failure)
    assert "no such thing" in watched.connection.failure.line


def test_stopping_while_it_starts_leaves_no_process(watched: Watched) -> None:
    ready: list[int] = []
    watched.connection.start(EngineChoice((str(COMMAND),)), lambda: ready.append(1))
    watched.connection.stop()
    watched.wait(lambda: not watched.calls.outstanding)
    assert ready == []
    assert watched.states == ["starting", "off"]


def test_a_server_needs_the_right_token(watched: Watched, server: Server, tmp_path: Path) -> None:
    connection = watched.connection
    for token_file in ("", str(tmp_path / "missing")):
        connection.start(EngineChoice(address=server.address, token_file=token_file))
        watched.wait(lambda: connection.failure)
        assert "token" in connection.failure.line
    wrong = tmp_path / "wrong"
    wrong.write_text("x" * 43)
    connection.start(EngineChoice(address=server.address, token_file=str(wrong)))
    watched.wait(lambda: connection.failure)
    assert connection.state == "off"
    connection.start(EngineChoice(address=server.address, token_file=str(server.token_file)))
    watched.wait(lambda: connection.state == "ready")
    assert not connection.is_local
