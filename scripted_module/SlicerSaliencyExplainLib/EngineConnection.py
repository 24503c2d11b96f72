"""Which engine answers: one that is started here, or a server; and whether it still does."""

from __future__ import annotations

import hashlib
import os
import shlex
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from SaliencyExplain.engine.client.engine_process import EngineProcess, find_engine
from SaliencyExplain.engine.client.http_client import RemoteEngine
from SaliencyExplain.engine.interface import About, Engine
from SaliencyExplain.errors import EngineLostError, ErrorCode, InputError

from .BackgroundCalls import BackgroundCalls
from .Failures import Failure
from .Jobs import nothing

COMMAND_VARIABLE = "SALIENCY_EXPLAIN_ENGINE"
TOKEN_VARIABLE = "SALIENCY_EXPLAIN_TOKEN_FILE"

OFF, STARTING, READY, LOST = "off", "starting", "ready", "lost"


@dataclass(frozen=True)
class EngineChoice:
    """The choice of an engine.

    Attributes:
        command: Words of the command that starts one on this computer; empty: a server.
        environment: What that command sees; None: this process's own environment.
        address: Of a server.
        token_file: Holds the server's token.
    """

    command: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    address: str = ""
    token_file: str = ""


def choice_from_text(text: str, token_file: str = "") -> EngineChoice:
    """An engine from a setting: the address of a server, or a command line."""
    text = text.strip()
    if text.startswith(("http://", "https://")):
        return EngineChoice(address=text, token_file=token_file)
    # A path with spaces is a command too where it is a file.
    words = [text] if Path(text).is_file() else shlex.split(text, posix=os.name != "nt")
    return EngineChoice(command=tuple(words))


def choice_from_environment(environment: Mapping[str, str]) -> EngineChoice | None:
    """The engine that environment variables name; None: they name none."""
    text = environment.get(COMMAND_VARIABLE, "")
    return choice_from_text(text, environment.get(TOKEN_VARIABLE, "")) if text.strip() else None


def disk_roots() -> tuple[str, ...]:
    """The roots of this computer's disks: an engine of the user's own may read what he may."""
    if os.name != "nt":
        return ("/",)
    return tuple(f"{drive}:\\" for drive in string.ascii_uppercase if Path(f"{drive}:\\").exists())


class EngineConnection:
    """Starts, connects, watches and ends an engine, on the main thread without waiting.

    Attributes:
        state: ``off``, ``starting``, ``ready`` or ``lost``.
        engine: Ready to be asked; None in the other states.
        about: What the engine said of itself last.
        failure: Why the last start failed, or how the engine was lost.
        changed: Called after each change of state.
    """

    def __init__(self, calls: BackgroundCalls, state_folder: Path | None = None) -> None:
        """Begins off.

        Args:
            calls: Carries the waiting to other threads.
            state_folder: A private folder in which engines that were left working on a study
                are found again; None: nowhere.
        """
        self.state = OFF
        self.engine: Engine | None = None
        self.about: About | None = None
        self.failure: Failure | None = None
        self.changed: Callable[[], None] = nothing
        self._calls = calls
        self._state_folder = state_folder
        self._process: EngineProcess | None = None
        self._attempt = 0
        self._when_ready: list[Callable[[], None]] = []
        calls.on_tick(self._look)

    @property
    def is_local(self) -> bool:
        """Whether the engine was started here, and sees this computer's disks."""
        return self._process is not None

    def start(self, choice: EngineChoice, then: Callable[[], None] = nothing) -> None:
        """Starts or connects; an engine of before is let go.

        Args:
            choice: Which one.
            then: Called when it is ready; not called where that fails.
        """
        self.stop()
        self._attempt += 1
        attempt = self._attempt
        self._when_ready = [then]
        self._become(STARTING)
        self._calls.call(
            self._open,
            choice,
            done=lambda opened: self._opened(attempt, *opened),
            failed=lambda error: self._failed(attempt, error),
        )

    def when_ready(self, then: Callable[[], None]) -> None:
        """Calls ``then`` at once where the engine is ready, else when it has become so."""
        if self.state == READY:
            then()
        elif self.state == STARTING:
            self._when_ready.append(then)

    def stop(self) -> None:
        """Disconnects from a server, or ends an engine that was started here, with its jobs."""
        self._attempt += 1
        self._when_ready = []
        process, engine = self._process, self.engine
        self._process = self.engine = self.about = self.failure = None
        if process is not None:
            self._calls.call(process.stop, failed=nothing)
        elif engine is not None:
            self._calls.call(engine.close, failed=nothing)
        if self.state != OFF:
            self._become(OFF)

    def let_go(self) -> None:
        """Leaves the engine when Slicer quits: a running study continues in it."""
        self._attempt += 1
        if self._process is not None:
            self._process.let_go()
        elif self.engine is not None:
            self.engine.close()
        self._process = self.engine = None

    def lose(self, failure: Failure) -> None:
        """The engine does not answer any more: one change of state, and nothing else."""
        if self.state != READY:
            return
        tail = self._process.log_tail() if self._process is not None else ""
        self.failure = Failure(failure.line, f"{tail}\n\n{failure.details}".strip(), lost=True)
        if self._process is not None:
            self._calls.call(self._process.stop, failed=nothing)
        self._process = self.engine = self.about = None
        self._become(LOST)

    def ask_about(self) -> None:
        """Requests the engine's memory and jobs again."""
        if self.engine is None:
            return
        engine = self.engine

        def take(about: About) -> None:
            if self.engine is engine:
                self.about = about
                self.changed()

        # A lost engine is noticed at the next request.
        self._calls.call(engine.about, done=take, failed=nothing)

    def _open(self, choice: EngineChoice) -> tuple[Engine, EngineProcess | None, About]:
        """Waits for the engine; on another thread."""
        if choice.command:
            state = self._state_of(choice)
            busy = find_engine(state) if state is not None else None
            if busy is not None:
                about = busy.about()
                # One that has nothing to do is about to end.
                if about.jobs:
                    return busy, None, about
            process = EngineProcess.start(
                choice.command,
                environment=choice.environment,
                data=disk_roots(),
                trust=True,
                state=state,
            )
            return process.client, process, process.client.about()
        engine = connect(choice)
        return engine, None, engine.about()

    def _state_of(self, choice: EngineChoice) -> Path | None:
        """A folder for each command: another command may be another version."""
        if self._state_folder is None:
            return None
        name = hashlib.sha256("\0".join(choice.command).encode()).hexdigest()[:16]
        return self._state_folder / name

    def _opened(
        self, attempt: int, engine: Engine, process: EngineProcess | None, about: About
    ) -> None:
        if attempt != self._attempt:
            if process is not None:
                self._calls.call(process.stop, failed=nothing)
            return
        self.engine, self._process, self.about = engine, process, about
        waiting, self._when_ready = self._when_ready, []
        self._become(READY)
        for then in waiting:
            then()

    def _failed(self, attempt: int, error: Exception) -> None:
        if attempt == self._attempt:
            self.failure = Failure.of(error)
            self._when_ready = []
            self._become(OFF)

    def _look(self) -> None:
        """Notices an engine started here that has died between requests."""
        if self.state == READY and self._process is not None and not self._process.alive:
            self.lose(
                Failure.of(
                    EngineLostError(
                        ErrorCode.ENGINE_LOST, "The engine has ended unexpectedly; start it again."
                    )
                )
            )

    def _become(self, state: str) -> None:
        self.state = state
        self.changed()


def connect(choice: EngineChoice) -> RemoteEngine:
    """The client of a server; sends no request yet.

    Raises:
        InputError: The address is not valid, or the token cannot be read.
    """
    if not choice.address.startswith(("http://", "https://")):
        raise InputError(
            ErrorCode.VALUE_FORM, "The address of a server begins with http:// or https://."
        )
    if not choice.token_file:
        raise InputError(ErrorCode.ENGINE_ACCESS, "Choose the file that holds the server's token.")
    try:
        token = Path(choice.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{choice.token_file}: the token cannot be read ({error})."
        ) from error
    return RemoteEngine(choice.address, token)
