"""What is wrong with arguments that a check of pydantic refused, in one sentence."""

import re
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ValidationError

# what an address has before its host may be a password
_USER = re.compile(r"//\S*@")


def sentence_of(error: ValidationError, name: Callable[..., str] = lambda *path: ".".join(path)) -> str:
    """The first thing that is wrong, as `denoiser.run_rows=1: Input should be ...`; `name` calls a field by its path.

    A check of several arguments together names them itself.
    """
    first = error.errors(include_url=False)[0]
    said, given = first["msg"].removeprefix("Value error, "), first["input"]
    path = [str(part) for part in first["loc"]]
    if not path:
        return said
    # what should have been a text may have been meant as a secret
    if isinstance(given, Mapping | BaseModel) or first["type"] == "string_type":
        return f"{name(*path)}: {said}"
    return f"{name(*path)}={_USER.sub('//***@', repr(given))}: {said}"
