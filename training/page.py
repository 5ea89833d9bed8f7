"""Blocks of the pages in docs/ that commands write: figures, grids and the prompts behind them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


class PageError(Exception):
    """A page has no place for what is to be written."""


@dataclass(frozen=True)
class Page:
    """A page, and the block of it that a command writes, between comments of the block's name."""

    file: Path
    block: re.Pattern[str]

    @classmethod
    def open(cls, file: Path, name: str) -> "Page":
        """Look for the block.

        Raises:
            PageError: the page does not have it.
        """
        page = cls(file, re.compile(rf"(?<=<!-- {name} -->\n).*(?=<!-- /{name} -->)", re.DOTALL))
        if not page.block.search(file.read_text(encoding="utf-8")):
            raise PageError(f"docs/{file.name}: has no <!-- {name} --> and <!-- /{name} --> around the figures")
        return page

    def write(self, content: str) -> None:
        """Put `content` in the place of the block; what changed beside it in the meantime stays."""
        text = self.file.read_text(encoding="utf-8")
        self.file.write_text(self.block.sub(lambda _: content, text), encoding="utf-8")


@dataclass(frozen=True)
class Shown:
    """What a page shows: a table, a grid of pictures of which none is chosen, and what was asked for in it."""

    table: str
    grid: Image.Image
    title: str
    summary: str
    prompts: Sequence[str]

    def block(self, picture: str) -> str:
        """As Markdown, with the grid in the file `picture`; its prompts are numbered from 0, as its seeds are."""
        listed = "\n".join(f"{seed}. {prompt}" for seed, prompt in enumerate(self.prompts))
        return (
            f"{self.table}\n\n![{self.title}]({picture})\n\n<details><summary>{self.summary}</summary>\n\n{listed}\n\n"
            "</details>\n"
        )


def evenly(total: int, count: int) -> list[int]:
    """`count` of `total` places, evenly spread: a choice that nobody made."""
    return np.linspace(0, total - 1, count).astype(int).tolist()


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its first column words and the others figures."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
