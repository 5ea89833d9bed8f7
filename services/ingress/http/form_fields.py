"""The fields of a form as a JSON object has them."""

import re
from collections.abc import Collection, Iterable
from typing import Any

from services.errors import FieldError, UnreadableBodyError
from services.ingress.http.body import parse_object

_LONGEST_NAME = 64
# an object in an object, or in a list of them
_NAME = re.compile(r"(?P<outer>[^\[\]]+)(\[(?P<number>[0-9]{1,4})\])?\[(?P<inner>[^\[\]]+)\]")


def members_of(
    fields: Iterable[tuple[str, str]], objects: Collection[str] = (), texts: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of a form: `components[vae_decoder]` is a member of `components`, `controls[0][model]` of its first.

    One of `objects` may be the text of its JSON. What is empty was not filled in, but for `texts` of the caller's own,
    which may be so.

    Raises:
        FieldError: one is there twice, or those of a list are not numbered from 0 on.
    """
    members: dict[str, Any] = {}
    lists: set[str] = set()
    for name, value in fields:
        match = _NAME.fullmatch(name)
        said = name[:_LONGEST_NAME]
        if match is None:
            if name in members:
                raise FieldError(f"{said}: is there twice", said)
            members[name] = _object(value) if name in objects else value if value or name in texts else None
            continue
        outer, number, inner = match["outer"], match["number"], match["inner"]
        if number is not None and outer not in members:
            lists.add(outer)
        inside = members.setdefault(outer, {})
        if (number is not None) != (outer in lists):
            raise FieldError(f"{said}: is there twice, in a list and by itself", outer[:_LONGEST_NAME])
        if number is not None:
            inside = inside.setdefault(int(number), {})
        if not isinstance(inside, dict) or inner in inside:
            raise FieldError(f"{said}: is there twice", outer[:_LONGEST_NAME])
        inside[inner] = value
    for name in lists:
        members[name] = _listed(name, members[name])
    return members


def _listed(name: str, found: dict[Any, Any]) -> list[Any]:
    if set(found) != set(range(len(found))):
        said = name[:_LONGEST_NAME]
        raise FieldError(f"{said}: must be numbered from 0 on, {said}[0] the first", said)
    return [found[number] for number in range(len(found))]


def _object(value: str) -> Any:
    """An object that a form has as the text of its JSON; any other text as it is, to be refused as such."""
    try:
        return parse_object(value.encode("utf-8", "replace")) if value else None
    except UnreadableBodyError:
        return value
