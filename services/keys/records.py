"""A key as operators keep it: one line with its name, its digest, and what it may do."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeAlias, get_args

from pydantic import ValidationError

from services.errors import StartError
from services.keys.settings import KeyLimits

Role: TypeAlias = Literal["images", "operate"]
ROLES: frozenset[Role] = frozenset(get_args(Role))
DEFAULT_ROLES: frozenset[Role] = frozenset({"images"})

_PREFIX = "lw-"
# 192 bits: twice what could ever be tried, and more
_KEY_BYTES = 24
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OPTIONS = ("roles", *KeyLimits.model_fields)
_NONE = "none"


class KeyLineError(StartError):
    """A line is no key's; it is told by its number, as what it holds is nobody else's to read."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.args = (line, why)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of one key. Two keys may have one name, while one takes the place of the other."""

    name: str
    digest: bytes
    roles: frozenset[Role]
    limits: KeyLimits


def new_key() -> str:
    """A key that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def digest_of(key: bytes) -> bytes:
    """What is kept of a key.

    SHA-256 alone, unsalted: a key is 192 random bits, so there is no list of likely ones to try against a digest, which
    is all that a salt and a slow hash would hinder; and a slow hash would be a cost of every request.
    """
    return sha256(key).digest()


def check_name(name: str) -> str:
    """A key's name, as it is.

    Raises:
        ValueError: it is none.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            "a name has 1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit"
        )
    return name


def line_of(record: KeyRecord) -> str:
    """The line of a record, with the limits that it has."""
    options = [] if record.roles == DEFAULT_ROLES else [f"roles={','.join(sorted(record.roles))}"]
    limits = record.limits.model_dump(exclude_none=True)
    options += [f"{name}={int(value) if value == int(value) else value}" for name, value in limits.items()]
    return " ".join([f"{record.name}:{record.digest.hex()}", *options])


def read_records(text: str, limits: KeyLimits) -> tuple[KeyRecord, ...]:
    """The records of a text, one a line; a line may be empty or begin with `#`. `limits` are those of lines without.

    Raises:
        KeyLineError: a line is no record, or says otherwise than an earlier one of the same name or key.
    """
    records: list[KeyRecord] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            record = _record(line.split(), limits)
            _require_agreement(records, record)
        except ValueError as error:
            raise KeyLineError(number, str(error)) from None
        records.append(record)
    return tuple(records)


def _record(parts: Sequence[str], defaults: KeyLimits) -> KeyRecord:
    name, colon, digest = parts[0].partition(":")
    if not colon or _NAME.fullmatch(name) is None or _DIGEST.fullmatch(digest) is None:
        raise ValueError("must begin with NAME:SHA256, the digest in 64 small hexadecimal digits")
    options: dict[str, str] = {}
    for part in parts[1:]:
        option, equals, value = part.partition("=")
        if not equals or option not in _OPTIONS:
            raise ValueError(f"has something else than an option; there are {', '.join(_OPTIONS)}, each NAME=VALUE")
        if option in options:
            raise ValueError(f"has {option} twice")
        options[option] = value
    roles = _roles(options.pop("roles", None))
    return KeyRecord(name, bytes.fromhex(digest), roles, _limits(options, defaults))


def _roles(text: str | None) -> frozenset[Role]:
    if text is None:
        return DEFAULT_ROLES
    given = set(text.split(","))
    if not given <= ROLES:
        raise ValueError(f"roles: must be some of {','.join(sorted(ROLES))}")
    return frozenset(role for role in ROLES if role in given)


def _limits(options: dict[str, str], defaults: KeyLimits) -> KeyLimits:
    own = {name: None if value == _NONE else value for name, value in options.items()}
    try:
        return defaults.changed(own)
    except ValidationError as error:
        # its own words would quote the value
        name = error.errors(include_url=False)[0]["loc"][0]
        raise ValueError(f"{name}: has a value outside its limits, which docs/keys.md says") from None


def _require_agreement(records: Sequence[KeyRecord], new: KeyRecord) -> None:
    for other in records:
        if other.digest == new.digest:
            raise ValueError("has the digest of an earlier line")
        if other.name == new.name and (other.roles, other.limits) != (new.roles, new.limits):
            raise ValueError("has other options than an earlier line of the same name")
