"""``overread serve --check``: the answers of the page for an IT department, with the settings of the command line."""

from __future__ import annotations

import json
import socket

from typer.testing import CliRunner

from overread.cli.main import app


def test_what_an_it_department_asks_is_answered_for_these_settings_and_nothing_is_opened(tmp_path, monkeypatch):
    def opened(*_: object) -> None:
        raise AssertionError("a port")

    monkeypatch.setattr(socket.socket, "bind", opened)
    token = "a token of the test, long enough"
    words = ["serve", str(tmp_path), "--check", "--host", "0.0.0.0", "--port", "9123", "--token", token, "--allow-host", "pathology.example", "--log", "none"]  # fmt: skip
    found = CliRunner().invoke(app, [*words, "--json"])
    assert found.exit_code == 0, found.output
    answers = {row["topic"]: row["answer"] for row in json.loads(found.stdout)}
    assert answers["ports"].startswith("one: TCP 9123 on 0.0.0.0, HTTP; others can reach it")
    assert "one shared token" in answers["accounts"]
    assert token not in found.output
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0, table.output
    assert all(topic in table.output for topic in answers)
    assert list(tmp_path.iterdir()) == []
    refused = CliRunner().invoke(app, ["serve", str(tmp_path), "--check", "--host", "0.0.0.0"])
    assert refused.exit_code != 0, "a public address demands a token, also of one who only asks"
