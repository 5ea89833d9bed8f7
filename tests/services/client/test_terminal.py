"""Pictures in a terminal: what it says that it shows, and what is written to it then."""

import asyncio
import base64
import io
import os
import re
import select
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.client.commands.picturing import blocks, sixel
from services.messages import Drawn, Order, Progress, Queued
from tests.services.client.conftest import surroundings
from tests.services.ingress.conftest import Server, watch_at_once

# takes the terminal of its input for its own, as a shell does
_WITHIN = (
    "import fcntl, runpy, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "runpy.run_module('services.client', run_name='__main__')"
)
_ASKED = b"\x1b[c"
PLAIN, SIXEL, KITTY = b"\x1b[?62;22c", b"\x1b[?62;4;22c", b"\x1b_Gi=31;OK\x1b\\\x1b[?62;22c"


def in_terminal(answer: bytes, *arguments: str, **more: str) -> tuple[int, bytes]:
    """The command line in a terminal that says `answer` of itself: how it ended, and all that it wrote."""
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, "-c", _WITHIN, *arguments],
        env=surroundings(**{"TERM": "xterm-256color", "COLORTERM": "truecolor", **more}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    written, answered = b"", False
    while True:
        if select.select([ours], [], [], 0.1)[0]:
            written += os.read(ours, 2**16)
            if _ASKED in written and not answered:
                answered = True
                os.write(ours, answer)
        elif process.poll() is not None:
            break
    assert termios.tcgetattr(theirs) == before, "the terminal is not as it was"
    os.close(theirs)
    os.close(ours)
    return process.returncode, written


def draw(url: str, out: Path, *more: str) -> list[str]:
    return ["draw", "a", "--out", str(out), "--seed", "200", "--steps", "6", "--url", url, *more]


def test_kittys_protocol(url: str, tmp_path: Path) -> None:
    status, written = in_terminal(KITTY, *draw(url, tmp_path / "a.webp"))
    assert status == 0
    shown, parts = [], b""
    for control, part in re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", written)[1:]:
        parts += part
        assert len(part) <= 4096
        if b"m=0" in control:
            shown.append(Image.open(io.BytesIO(base64.b64decode(parts))))
            parts = b""
    # two previews, half of which are red, and the picture, which its seed colours
    assert [one.format for one in shown] == ["PNG"] * 3
    # the preview came as a lossy file
    corners = np.array([one.convert("RGB").getpixel((0, 0)) for one in shown[::2]])
    np.testing.assert_allclose(corners, [(255, 0, 0), (200, 200, 200)], atol=4)


def test_iterm2_names_itself(url: str, tmp_path: Path) -> None:
    status, written = in_terminal(PLAIN, *draw(url, tmp_path / "a.png"), TERM_PROGRAM="iTerm.app")
    assert status == 0
    files = re.findall(rb"\x1b\]1337;File=inline=1;size=(\d+);width=\d+:([^\a]*)\a", written)
    assert len(files) == 3
    assert base64.b64decode(files[-1][1]) == (tmp_path / "a.png").read_bytes()
    assert int(files[-1][0]) == (tmp_path / "a.png").stat().st_size


def test_sixels(url: str, tmp_path: Path) -> None:
    status, written = in_terminal(SIXEL, *draw(url, tmp_path / "a.png"))
    assert status == 0
    shown = [read_sixel(one.decode()) for one in re.findall(rb"\x1bPq[^\x1b]*\x1b\\", written)]
    assert len(shown) == 3
    assert shown[-1].size == (64, 64)
    level = shown[-1].getpixel((32, 32))
    assert isinstance(level, tuple)
    assert all(abs(one - 200) < 2 for one in level)


@pytest.mark.parametrize(
    ("answer", "more"),
    [(PLAIN, {}), (PLAIN, {"LC_TERMINAL": "iTerm2", "TMUX": "/tmp/t"}), (b"", {}), (KITTY, {"TERM": "dumb"})],
    ids=["plain", "iTerm2 around tmux", "silent", "dumb"],
)
def test_where_the_terminal_does_not_say_so_there_are_no_pictures(
    url: str, tmp_path: Path, answer: bytes, more: dict[str, str]
) -> None:
    status, written = in_terminal(answer, *draw(url, tmp_path / "a.png"), **more)
    assert status == 0
    assert (tmp_path / "a.png").exists()
    assert b"1337" not in written
    assert b"\x1bPq" not in written
    assert b"f=100" not in written
    assert "▀".encode() not in written


def test_half_blocks_where_they_are_asked_for(url: str, tmp_path: Path) -> None:
    status, written = in_terminal(PLAIN, *draw(url, tmp_path / "a.png", "--preview"))
    assert status == 0
    assert b"38;2;200;200;200;48;2;200;200;200m\xe2\x96\x80" in written
    assert b"f=100" not in written


def test_nothing_is_asked_or_shown_where_nothing_shall_be(url: str, tmp_path: Path) -> None:
    status, written = in_terminal(KITTY, *draw(url, tmp_path / "a.png", "--no-preview"))
    assert status == 0
    assert _ASKED not in written


def read_sixel(text: str) -> Image.Image:
    """A decoder of its own: `"` the size, `#` a colour in hundredths, `!` a run, `$` the line again, `-` the next."""
    body = text.removeprefix("\x1bPq").removesuffix("\x1b\\")
    size = re.match(r'"1;1;(\d+);(\d+)', body)
    assert size is not None
    picture = Image.new("RGB", (int(size[1]), int(size[2])))
    colours: dict[int, tuple[int, int, int]] = {}
    x, top, colour, rest = 0, 0, 0, body[size.end() :]
    token = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|([$-])")
    while rest:
        found = token.match(rest)
        assert found is not None, rest[:20]
        rest = rest[found.end() :]
        if found[1]:
            red, green, blue = (round(int(found[part]) * 255 / 100) for part in (2, 3, 4))
            colours[int(found[1])] = (red, green, blue)
        elif found[5]:
            colour = int(found[5])
        elif found[9]:
            x, top = 0, top + (6 if found[9] == "-" else 0)
        else:
            bits = ord(found[7] or found[8]) - 63
            end = x + int(found[6] or 1)
            for column in range(x, end):
                for bit in range(6):
                    if bits >> bit & 1:
                        picture.putpixel((column, top + bit), colours[colour])
            x = end
    return picture


def test_the_place_in_the_queue_is_told(server: Server, url: str, tmp_path: Path) -> None:
    async def watch(order: Order, every: int) -> AsyncIterator[Progress | Queued | Drawn]:
        yield Queued(0, 3)
        await asyncio.sleep(0.5)
        async for news in watch_at_once(order, every):
            yield news

    server.watch = watch
    status, written = in_terminal(PLAIN, *draw(url, tmp_path / "a.png"))
    assert status == 0
    assert b"number 3 in the queue" in written


def test_sixels_hold_the_picture() -> None:
    gradient = Image.merge(
        "RGB", [Image.linear_gradient("L").resize((100, 70)), *[Image.radial_gradient("L").resize((100, 70))] * 2]
    )
    expected = gradient.copy().quantize(64).convert("RGB")
    shown = read_sixel(sixel(gradient.copy()))
    assert shown.size == (100, 70)
    levels = zip(shown.tobytes(), expected.tobytes(), strict=True)
    assert max(abs(one - other) for one, other in levels) <= 2, "hundredths of 255 are 2.55 apart"


def test_half_blocks_hold_two_pixels_each() -> None:
    picture = Image.new("RGB", (64, 64), "red")
    picture.paste((0, 0, 255), (0, 32, 64, 64))
    text = blocks(picture)
    lines = text.plain.splitlines()
    assert (len(lines), {len(line) for line in lines}) == (16, {32})
    styles = [str(span.style) for span in text.spans]
    assert (styles[0], styles[-1]) == ("#ff0000 on #ff0000", "#0000ff on #0000ff")
