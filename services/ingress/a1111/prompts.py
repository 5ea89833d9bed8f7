"""What A1111 reads in a prompt beside weights, and what is not here: it is refused, as the picture would be another."""

import re
from dataclasses import dataclass

from services.errors import FieldError
from services.ingress.a1111.schemas import DrawingBody

# A1111 takes these out of a prompt and loads what they name
_EXTRA_NETWORK = re.compile(r"<(lora|lyco|hypernet):[^<>]+>", re.IGNORECASE)
# it draws by several prompts at once; a negative prompt has none of that
_AND = re.compile(r"\bAND\b")
# possessive, so that no text takes longer than its length
_SIGN = re.compile(r"\\.|[\[\]()|]|:\s*+[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?\s*+(?=\])", re.DOTALL)
_PARTNERS = {")": "(", "]": "["}


@dataclass(slots=True)
class _Opened:
    """A bracket that is open, and whether what is in it changes while a picture is drawn."""

    sign: str
    changes: bool = False


def require_read(body: DrawingBody, weighting: str) -> None:
    """Refuse prompts that ask for networks to load, change while a picture is drawn, or are put together.

    What is not read as A1111's signs, by another `weighting`, is text.

    Raises:
        FieldError: one does; the field is named, and nothing of the prompt is quoted.
    """
    for name, text in (("prompt", body.prompt or ""), ("negative_prompt", body.negative_prompt or "")):
        if not body.disable_extra_networks and _EXTRA_NETWORK.search(text):
            said = "names an extra network, of which there are none; disable_extra_networks makes it words"
        elif weighting == "a1111" and changes(text):
            said = "has [from:to:when] or [one|other], which is not here; a backslash before the bracket makes it text"
        elif weighting == "a1111" and name == "prompt" and _AND.search(text):
            said = "has AND, which is not here; in small letters it is a word"
        else:
            continue
        raise FieldError(f"{name}: {said}", name)


def changes(text: str) -> bool:
    """Whether A1111 takes a part of a text for one that changes from step to step: `[from:to:when]`, `[one|other]`."""
    opened: list[_Opened] = []
    for match in _SIGN.finditer(text):
        sign = match[0]
        if sign in "([":
            opened.append(_Opened(sign))
        elif sign in _PARTNERS:
            if opened and opened[-1].sign == _PARTNERS[sign] and opened.pop().changes:
                return True
        elif sign[0] != "\\" and opened:
            opened[-1].changes |= opened[-1].sign == "["
    return False
