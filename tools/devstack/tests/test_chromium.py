"""How the browser of the tests gets onto the machine, with a stand-in for apt-get that only writes a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devstack import tools
from devstack.chromium import chromium, find_chromium
from devstack.errors import BinaryMissing

FAKE_APT = """#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> "$FAKE_APT_LOG"
if [ -n "$FAKE_APT_FAILURE" ]; then echo "W: a warning" >&2; echo "$FAKE_APT_FAILURE" >&2; exit 100; fi
case "$*" in *install*) echo '#!/bin/sh' > "$FAKE_BIN/chromium"; chmod +x "$FAKE_BIN/chromium";; esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser, on which we are root. Its only program is apt-get."""
    programs = tmp_path / "bin"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text(FAKE_APT.replace("chmod", "/bin/chmod"))
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("FAKE_BIN", str(programs))
    monkeypatch.setenv("FAKE_APT_LOG", str(tmp_path / "apt.log"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(tools, "NO_BROWSER", tmp_path / "tools" / "no-browser")
    return tmp_path


def apt_log(machine: Path) -> list[str]:
    log = machine / "apt.log"
    return log.read_text().splitlines() if log.exists() else []


def test_root_gets_the_browser_once_with_fresh_lists(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        tools.provide_chromium()

    assert find_chromium() == machine / "bin" / "chromium"
    update, install = apt_log(machine)
    assert update.startswith("noninteractive -qq")
    assert update.endswith(" update")
    assert install.endswith(" install --yes --no-install-recommends chromium")
    assert capsys.readouterr().err == "tools: installing the browser of the tests (package chromium) with apt-get\n"


def test_nobody_else_installs_anything_and_is_told_what_to_do(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    tools.provide_chromium()

    assert apt_log(machine) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "the tests in a browser will be skipped" in line
    assert "apt-get install chromium" in line


def test_what_apt_get_says_last_is_told_in_one_line_and_the_set_up_goes_on(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_APT_FAILURE", "E: Unable to locate package chromium")

    tools.provide_chromium()

    _, line = capsys.readouterr().err.splitlines()
    assert "no browser (apt-get failed: E: Unable to locate package chromium): " in line
    assert "the tests in a browser will be skipped" in line


def test_what_failed_once_is_not_tried_again_until_somebody_asks_for_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_APT_FAILURE", "E: no network")
    tools.provide_chromium()
    tried = apt_log(machine)

    tools.provide_chromium()

    assert apt_log(machine) == tried
    again = capsys.readouterr().err.splitlines()[-1]
    assert f"apt-get failed: E: no network; remove {machine / 'tools' / 'no-browser'} to try again" in again
    monkeypatch.delenv("FAKE_APT_FAILURE")
    (machine / "tools" / "no-browser").unlink()
    tools.provide_chromium()
    assert find_chromium() is not None


def test_only_who_asks_for_the_browser_gets_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "build", lambda *_: None)
    monkeypatch.setattr(tools, "fetch_openssh", lambda: True)

    monkeypatch.setattr("sys.argv", ["devstack.tools"])
    assert tools.main() == 0
    assert apt_log(machine) == []

    monkeypatch.setattr("sys.argv", ["devstack.tools", "browser"])
    assert tools.main() == 0
    assert find_chromium() is not None


def test_a_machine_without_apt_get_is_told_what_to_install(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "bin" / "apt-get").unlink()

    tools.provide_chromium()

    (line,) = capsys.readouterr().err.splitlines()
    assert "install Chromium" in line


def test_a_browser_that_is_not_there_says_what_to_install(machine: Path) -> None:
    with pytest.raises(BinaryMissing, match="install Chromium"):
        chromium(machine, machine)


@pytest.mark.usefixtures("machine")
def test_only_root_gives_up_the_sandbox_and_nothing_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools.provide_chromium()

    as_root = chromium(tmp_path / "run", tmp_path / "temporary")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    as_somebody = chromium(tmp_path / "run", tmp_path / "temporary")

    assert "--no-sandbox" in as_root.argv
    assert "--no-sandbox" not in as_somebody.argv
    assert f"--user-data-dir={tmp_path / 'run' / 'profile'}" in as_root.argv
    assert as_root.env is not None
    assert as_root.env["HOME"] == str(tmp_path / "run")
    assert as_root.env["TMPDIR"] == str(tmp_path / "temporary")


def test_a_snap_is_no_browser_that_the_tests_can_use(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snap = machine / "snap" / "bin" / "chromium"
    snap.parent.mkdir(parents=True)
    snap.touch()
    (machine / "bin" / "chromium").symlink_to(snap)
    (machine / "bin" / "chromium").chmod(0o755)
    assert find_chromium() is not None

    monkeypatch.setattr("devstack.chromium._SNAPS", str(machine / "snap"))

    assert find_chromium() is None
