"""`python -m services.keys`: a key that works, and a line that does not tell it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.keys.__main__ import app
from services.keys.settings import KeyLimits, KeySettings
from services.keys.source import KeySource

RUN = CliRunner()


def test_a_new_key_and_its_line_work_together(tmp_path: Path) -> None:
    options = ["--role", "operate", "--role", "images", "--pictures-per-minute", "30", "--concurrent-pictures", "2"]
    made = RUN.invoke(app, ["new", "ann", *options])
    assert made.exit_code == 0, made.output
    key, line = made.stdout.splitlines()
    assert key.removeprefix("lw-") not in line
    file = tmp_path / "keys"
    file.write_text(line, encoding="utf-8")
    keyring = KeySource(KeySettings(file=file)).keyring
    assert keyring is not None
    found = keyring.find(key.encode())
    assert found is not None
    assert (found.tenant, sorted(found.roles)) == ("ann", ["images", "operate"])
    assert found.allowance.limits == KeyLimits(pictures_per_minute=30, concurrent_pictures=2)
    checked = RUN.invoke(app, ["check", str(file)])
    assert (checked.exit_code, checked.stdout) == (0, "the file is whole: 1 keys, 1 names\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a b"], "a name has 1 to 64 letters"),
        (["ann", "--role", "root"], "--role: must be one of images, operate"),
        (["ann", "--burst", "3"], "burst: does nothing without pictures_per_minute"),
        (["ann", "--pictures-per-minute", "0"], "pictures_per_minute"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_no_key_is_made(arguments: list[str], said: str) -> None:
    made = RUN.invoke(app, ["new", *arguments])
    assert made.exit_code == 1
    assert (made.stdout, made.stderr.startswith(f"keys: {said}")) == ("", True)


def test_a_wrong_file_is_told_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nann\n", encoding="utf-8")
    checked = RUN.invoke(app, ["check", str(file)])
    assert checked.exit_code == 1
    assert checked.stderr.startswith("keys: keys.file: line 2: must begin with NAME:SHA256")
