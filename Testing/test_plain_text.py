from __future__ import annotations

import json
import logging

import pytest
from rich.table import Table

from SaliencyExplain.cli import messages
from SaliencyExplain.cli.main import application
from SaliencyExplain.json_text import json_text
from SaliencyExplain.plain_text import visible, visible_line

ACTING = "\x1b[31m\x07\r\x00\x9b2J\u202egpj\u2066\ufeff\udc80\u2028"


def test_characters_that_act_are_shown_and_others_stay() -> None:
    assert visible("a\x1b[2Jb\u202ec") == "a\\x1b[2Jb\\u202ec"
    for text in ("Läsion β 3", "日本語", "a\tb\nc", "نيم\u200cفاصله", "👍🏽"):
        assert visible(text) == text
    assert visible_line("a\nb\tc") == "a b c"
    shown = visible(ACTING)
    assert shown.isprintable()
    assert shown.encode()


def test_json_reads_back_as_it_was() -> None:
    text = json_text({"name": ACTING + "\U000e0041é\n"})
    assert json.loads(text) == {"name": ACTING + "\U000e0041é\n"}
    assert "é" in text
    assert text.replace("\n", "").isprintable()


def test_the_terminal_gets_nothing_that_acts(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_row(ACTING, "[/b][link=javascript:x]")
    for say in (
        lambda: messages.say_notes([ACTING]),
        lambda: messages.aside.print(table),
        lambda: messages.say_error(f"{ACTING}: cannot be read."),
    ):
        say()
        shown = capsys.readouterr().err
        assert shown.replace("\n", "").isprintable()
        assert "\\x1b" in shown
    messages.run(application, ["--version"])
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "layer %s", (ACTING,), None)
    assert logging.lastResort is not None
    assert logging.lastResort.format(record).isprintable()
    capsys.readouterr()
    messages.aside.print(table)
    assert "[/b]" in capsys.readouterr().err
