"""Which pictures a terminal shows, by its own word."""

import enum
import os
import re
import select
from collections.abc import Mapping

# a picture of one pixel to ask about, as kitty's protocol has it, and after it what every terminal answers
_QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
_KITTY = b"\x1b_Gi=31;OK"
_ATTRIBUTES = re.compile(rb"\x1b\[\?([0-9;]*)c")
_SIXEL = b"4"
# a line over half the world takes a third of a second
_ANSWER_S = 1.0
_MOST_BYTES = 4096


class Graphics(enum.Enum):
    """How pictures are written to a terminal; `BLOCKS` are characters of half a cell, for those that show none."""

    KITTY = enum.auto()
    ITERM2 = enum.auto()
    SIXEL = enum.auto()
    BLOCKS = enum.auto()


def graphics_of(environment: Mapping[str, str]) -> Graphics:
    """What the terminal that this process is in says that it shows."""
    if environment.get("TERM", "dumb") == "dumb":
        return Graphics.BLOCKS
    found = _ask()
    if _KITTY in found:
        return Graphics.KITTY
    if _is_iterm2(environment):
        return Graphics.ITERM2
    attributes = _ATTRIBUTES.search(found)
    shows = attributes is not None and _SIXEL in attributes[1].split(b";")
    return Graphics.SIXEL if shows else Graphics.BLOCKS


def _is_iterm2(environment: Mapping[str, str]) -> bool:
    # it tells no question of everybody's, but its name; within tmux that of the outer terminal stands there still
    inside = "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux"))
    names = (environment.get("TERM_PROGRAM"), environment.get("LC_TERMINAL"))
    return not inside and ("iTerm.app" in names or "iTerm2" in names)


def _ask() -> bytes:
    """What the terminal answers; nothing where there is none, or it is none of a kind that can be asked."""
    try:
        import termios
        import tty
    except ImportError:
        return b""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        before = termios.tcgetattr(terminal)
        try:
            # else the answer is shown, and waits for a line's end
            tty.setcbreak(terminal, termios.TCSANOW)
            os.write(terminal, _QUESTION)
            return _answer(terminal)
        finally:
            termios.tcsetattr(terminal, termios.TCSANOW, before)
    except termios.error:
        return b""
    finally:
        os.close(terminal)


def _answer(terminal: int) -> bytes:
    found = b""
    while _ATTRIBUTES.search(found) is None and len(found) < _MOST_BYTES:
        if not select.select([terminal], [], [], _ANSWER_S)[0]:
            break
        found += os.read(terminal, _MOST_BYTES)
    return found
