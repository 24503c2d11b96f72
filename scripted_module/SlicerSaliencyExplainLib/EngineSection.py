"""The panel's section "Engine"."""

from __future__ import annotations

import os
from typing import Any

import slicer
from slicer.i18n import tr as _

from SaliencyExplain.errors import Cancelled, ErrorCode, InputError, SaliencyExplainError

from .EngineConnection import (
    COMMAND_VARIABLE,
    LOST,
    OFF,
    READY,
    STARTING,
    EngineChoice,
    choice_from_environment,
    choice_from_text,
    connect,
)
from .EnginePackages import PackageToInstall, TorchMissingError, install_torch
from .Failures import Failure
from .Section import Section, allow, size_text
from .Tables import fill_table

_THIS_COMPUTER, _SERVER = 0, 1
_NO_PYTHON = _("This Slicer has no Python program. Give an engine command.")


class EngineSection(Section):
    """Starts, connects and ends engines, and installs what one on this computer needs."""

    prefix = "engine"

    def __init__(self, panel: Any) -> None:
        super().__init__(panel)
        self._plan: tuple[PackageToInstall, ...] = ()
        self._working = ""
        self._stop_work = False
        self._last_line = ""
        self._testing = False
        self._read_settings()
        ui = self.ui
        ui.engineKindComboBox.connect("currentIndexChanged(int)", self._on_settings)
        ui.engineCommandLineEdit.connect("editingFinished()", self._on_settings)
        ui.serverAddressLineEdit.connect("editingFinished()", self._on_settings)
        ui.tokenPathLineEdit.connect("currentPathChanged(QString)", self._on_settings)
        ui.startEngineButton.connect("clicked(bool)", self._on_start)
        ui.stopEngineButton.connect("clicked(bool)", self._on_stop)
        ui.testConnectionButton.connect("clicked(bool)", self._on_test)
        ui.planPackagesButton.connect("clicked(bool)", self._on_plan)
        ui.installPackagesButton.connect("clicked(bool)", self._on_install)
        ui.dismissPackagesButton.connect("clicked(bool)", self._on_dismiss)
        ui.removePackagesButton.connect("clicked(bool)", self._on_remove)
        self.panel.connection.changed = self._on_connection

    def choice(self) -> EngineChoice:
        """The engine that the settings name.

        Raises:
            InputError: They name none that could be started or reached.
        """
        if self.ui.engineKindComboBox.currentIndex == _SERVER:
            return EngineChoice(
                address=self.ui.serverAddressLineEdit.text.strip(),
                token_file=self.ui.tokenPathLineEdit.currentPath,
            )
        command = self.ui.engineCommandLineEdit.text.strip()
        if command:
            # Slicer's own PYTHONHOME and library paths would break any other Python.
            environment = slicer.util.startupEnvironment()
            return EngineChoice(choice_from_text(command).command, environment)
        packages = self.panel.packages
        if packages is None:
            raise InputError(ErrorCode.ENGINE_START, _NO_PYTHON)
        return EngineChoice(tuple(packages.command()), packages.environment())

    def start(self, then: Any = lambda: None) -> None:
        """Starts or connects, and calls ``then`` when the engine is ready."""
        if self.panel.connection.state in (STARTING, READY):
            self.panel.connection.when_ready(then)
            return
        self.clear_message()
        try:
            self.panel.connection.start(self.choice(), then)
        except SaliencyExplainError as error:
            self.fail(Failure.of(error))

    def why_not_startable(self) -> str:
        """Why no engine can be started now, in words; empty: one can, or runs."""
        ui = self.ui
        if self.panel.connection.state in (STARTING, READY):
            return ""
        if ui.engineKindComboBox.currentIndex == _SERVER:
            if not ui.serverAddressLineEdit.text.strip():
                return _("Enter the server's address under Engine.")
            if not ui.tokenPathLineEdit.currentPath:
                return _("Choose the server's token file under Engine.")
            return ""
        if ui.engineCommandLineEdit.text.strip() or self.panel.packages_installed():
            return ""
        return _("Install the engine's packages, or name an engine command, under Engine.")

    def refresh(self) -> None:
        """Brings its widgets in line with the state of the panel."""
        ui, connection = self.ui, self.panel.connection
        server = ui.engineKindComboBox.currentIndex == _SERVER
        ui.localEngineFrame.visible = not server
        ui.serverFrame.visible = server
        ui.testConnectionButton.visible = server
        away = connection.state in (OFF, LOST)
        again = _("Start again") if connection.state == LOST else _("Start")
        ui.startEngineButton.text = _("Connect") if server else again
        working = (bool(self._working), _("Wait until the packages are done."))
        allow(
            ui.startEngineButton,
            _("Start the engine; the last classifier is opened again."),
            working,
            (connection.state == READY, _("The engine is running.")),
            (connection.state == STARTING, _("The engine is starting.")),
            (bool(self.why_not_startable()), self.why_not_startable()),
        )
        allow(
            ui.stopEngineButton,
            _("Let go of the server, or end the engine with what it works on."),
            (away, _("There is no engine.")),
        )
        allow(
            ui.testConnectionButton,
            _("Ask the server whether it answers, without going over to it."),
            (self._testing, _("The server is being asked.")),
            (server and away and bool(self.why_not_startable()), self.why_not_startable()),
        )
        for widget in (ui.engineKindComboBox, ui.engineCommandLineEdit, ui.serverAddressLineEdit):
            widget.enabled = away
        ui.tokenPathLineEdit.enabled = away
        self._refresh_packages(working, away)
        ui.engineStatusLabel.text = self._status()

    def _refresh_packages(self, working: tuple[bool, str], away: bool) -> None:
        ui = self.ui
        installed = self.panel.packages_installed()
        folder = self.panel.packages_folder()
        ui.packagesLabel.text = (
            _("Installed in {folder}.") if installed else _("Not installed.")
        ).format(folder=folder)
        allow(
            ui.planPackagesButton,
            _("Show what would be installed, with sizes, without installing it."),
            working,
            (self.panel.packages is None, _NO_PYTHON),
            (installed, _("They are installed.")),
        )
        allow(
            ui.removePackagesButton,
            _("Delete the folder {folder}.").format(folder=folder),
            working,
            (not installed, _("They are not installed.")),
            (not away, _("Stop the engine first.")),
        )
        allow(ui.installPackagesButton, _("Download and install these packages."), working)

    def _status(self) -> str:
        connection = self.panel.connection
        if connection.state == STARTING:
            return _("Starting …")
        if connection.state == LOST:
            return _("The engine is lost; the scene is as it was.")
        about = connection.about
        if connection.state == OFF or about is None:
            return " ".join([_("Off."), self.why_not_startable()]).strip()
        return _("Ready: {device}, {free} of {total} free, version {version}.").format(
            device=about.device,
            free=size_text(about.memory_free),
            total=size_text(about.memory_total),
            version=about.version,
        )

    def _on_connection(self) -> None:
        connection = self.panel.connection
        starting = connection.state == STARTING
        self.ui.engineProgressBar.maximum = 0
        self.ui.engineProgressLabel.text = _("Starting the engine …") if starting else ""
        self.ui.engineProgressFrame.visible = starting or bool(self._working)
        self.ui.engineCancelButton.enabled = True
        if connection.failure is not None:
            self.say(connection.failure.line, connection.failure.details)
        self.panel.engine_changed()

    def _on_start(self, _checked: bool = False) -> None:
        self.start()

    def _on_stop(self, _checked: bool = False) -> None:
        self.clear_message()
        self.panel.connection.stop()

    def _on_test(self, _checked: bool = False) -> None:
        self.clear_message()
        self._testing = True

        def done(about: Any) -> None:
            self._testing = False
            self.say(
                _("The server answers: {device}, version {version}.").format(
                    device=about.device, version=about.version
                )
            )
            self.panel.refresh()

        def failed(error: Exception) -> None:
            self._testing = False
            self.fail(Failure.of(error))

        choice = self.choice()
        self.panel.logic.calls.call(lambda: connect(choice).about(), done=done, failed=failed)
        self.panel.refresh()

    def _on_cancel(self, _checked: bool = False) -> None:
        if self._working:
            self._stop_work = True
            self.ui.engineProgressLabel.text = _("Stopping …")
            self.ui.engineCancelButton.enabled = False
        else:
            self.panel.connection.stop()

    # Packages

    def _on_plan(self, _checked: bool = False) -> None:
        self._work(
            _("Looking up packages …"),
            lambda: self.panel.packages.plan(self._on_line, self._stopped),
            self._show_plan,
            self._install_torch,
        )

    def _install_torch(self, error: Exception) -> None:
        """Lets the extension PyTorch install it, which asks the user, and looks up anew."""
        if not isinstance(error, TorchMissingError):
            self.fail(Failure.of(error))
            return
        try:
            install_torch()
        except Cancelled:
            self.say(_("Cancelled; nothing was changed."))
            self.panel.refresh()
        except SaliencyExplainError as still:
            self.fail(Failure.of(still))
        else:
            self._on_plan()

    def _show_plan(self, plan: tuple[PackageToInstall, ...]) -> None:
        self._plan = plan
        known = sum(package.bytes or 0 for package in plan)
        self.ui.packagesPlanLabel.text = _(
            "{count} packages, {size} to download, into {folder}. Slicer's own Python and other "
            "extensions stay as they are."
        ).format(count=len(plan), size=size_text(known), folder=self.panel.packages_folder())
        rows = [(package.name, package.version, size_text(package.bytes)) for package in plan]
        fill_table(
            self.ui.packagesPlanTable, (_("Package"), _("Version"), _("Size")), rows, most_rows=5
        )
        self.ui.packagesPlanFrame.visible = True

    def _on_install(self, _checked: bool = False) -> None:
        plan = self._plan
        self._work(
            _("Installing …"),
            lambda: self.panel.packages.install(plan, self._on_line, self._stopped),
            lambda _nothing: self._on_dismiss(),
        )

    def _on_dismiss(self, _checked: bool = False) -> None:
        self._plan = ()
        self.ui.packagesPlanFrame.visible = False

    def _on_remove(self, _checked: bool = False) -> None:
        self._work(_("Removing …"), lambda: self.panel.packages.remove(), lambda _nothing: None)

    def _work(self, doing: str, work: Any, done: Any, failed: Any = None) -> None:
        """Runs pip's work on another thread; its last line is shown, and Cancel stops it."""
        self.clear_message()
        self._working, self._stop_work, self._last_line = doing, False, ""

        def finish() -> None:
            self._working = ""
            self.ui.engineProgressFrame.visible = False

        def succeed(answer: Any) -> None:
            finish()
            done(answer)
            self.panel.refresh()

        def fail(error: Exception) -> None:
            finish()
            if isinstance(error, Cancelled):
                self.say(_("Cancelled; nothing was changed."))
                self.panel.refresh()
            elif failed is not None:
                failed(error)
            else:
                self.fail(Failure.of(error))

        self.panel.logic.calls.call(work, done=succeed, failed=fail)
        self.ui.engineCancelButton.enabled = True
        self.ui.engineProgressBar.maximum = 0
        self.ui.engineProgressFrame.visible = True
        self.tick()
        self.panel.refresh()

    def tick(self) -> None:
        """Shows what pip said last; its lines come from another thread."""
        if self._working and not self._stop_work:
            self.ui.engineProgressLabel.text = f"{self._working} {self._last_line}"[:120]

    def _on_line(self, line: str) -> None:
        self._last_line = line.strip()

    def _stopped(self) -> bool:
        return self._stop_work

    # Settings

    def _read_settings(self) -> None:
        ui, settings = self.ui, self.panel.settings
        named = choice_from_environment(os.environ)
        if named is not None and named.address:
            ui.engineKindComboBox.currentIndex = _SERVER
            ui.serverAddressLineEdit.text = named.address
            ui.tokenPathLineEdit.currentPath = named.token_file
        elif named is not None:
            ui.engineKindComboBox.currentIndex = _THIS_COMPUTER
            ui.engineCommandLineEdit.text = os.environ[COMMAND_VARIABLE]
        else:
            ui.engineKindComboBox.currentIndex = int(settings.read("EngineKind", "0"))
            ui.engineCommandLineEdit.text = settings.read("EngineCommand", "")
            ui.serverAddressLineEdit.text = settings.read("ServerAddress", "")
            ui.tokenPathLineEdit.currentPath = settings.read("TokenFile", "")

    def _on_settings(self, _value: Any = None) -> None:
        # An engine that the environment names is for this run, not for good.
        if choice_from_environment(os.environ) is None:
            ui, settings = self.ui, self.panel.settings
            settings.write("EngineKind", str(ui.engineKindComboBox.currentIndex))
            settings.write("EngineCommand", ui.engineCommandLineEdit.text.strip())
            settings.write("ServerAddress", ui.serverAddressLineEdit.text.strip())
            settings.write("TokenFile", ui.tokenPathLineEdit.currentPath)
        self.panel.refresh()
