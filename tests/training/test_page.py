from pathlib import Path

import pytest
from PIL import Image

from training.page import Page, PageError, Shown, evenly, table


def test_a_block_alone_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("# Kept\n<!-- one -->\nold\n<!-- /one -->\n<!-- two -->\nother\n<!-- /two -->\n")
    page = Page.open(file, "one")
    file.write_text(file.read_text() + "written meanwhile\n")
    page.write("new \\1\n")
    assert file.read_text() == (
        "# Kept\n<!-- one -->\nnew \\1\n<!-- /one -->\n<!-- two -->\nother\n<!-- /two -->\nwritten meanwhile\n"
    )
    with pytest.raises(PageError, match="page.md: has no <!-- three -->"):
        Page.open(file, "three")


def test_what_is_shown_is_a_table_a_picture_and_what_was_asked_for() -> None:
    figures = table(["what", "dB"], [["ours", "25.0"], ["theirs", "24.0"]])
    assert figures == "| what | dB |\n| --- | ---: |\n| ours | 25.0 |\n| theirs | 24.0 |"
    block = Shown(figures, Image.new("RGB", (8, 8)), "Two", "Prompts", ["a cat", "a dog"]).block("two.png")
    assert block.startswith(f"{figures}\n\n![Two](two.png)\n")
    assert "\n0. a cat\n1. a dog\n" in block


def test_evenly_spread_places_reach_from_end_to_end() -> None:
    assert evenly(80, 3) == [0, 39, 79]
    assert evenly(2, 2) == [0, 1]
