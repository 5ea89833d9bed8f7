"""A key's line: what it says, and that nothing of a wrong one is told but its number."""

import hashlib
import re
from pathlib import Path

import pytest

from services.keys.records import (
    KeyLineError,
    KeyRecord,
    digest_of,
    line_of,
    new_key,
    read_records,
)
from services.keys.settings import KeyLimits

NONE = KeyLimits()
# sha256sum of "abc", as FIPS 180-2 gives it
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
OTHER = hashlib.sha256(b"other").hexdigest()
SECRET = "canary-7c1d"


def test_a_digest_is_plain_sha256() -> None:
    assert digest_of(b"abc").hex() == ABC


def test_keys_are_long_and_no_two_alike() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    # 6 bits a letter, so at least 128 of them
    assert all(re.fullmatch(r"lw-[A-Za-z0-9_-]{22,}", key) for key in keys)


def test_lines_of_every_form() -> None:
    text = f"""
# who may call
ann:{ABC}
  ben-2.b_c:{OTHER}   roles=operate,images pictures_per_minute=90.5\tburst=10 concurrent_pictures=4

"""
    first, second = read_records(text, NONE)
    assert first == KeyRecord("ann", bytes.fromhex(ABC), frozenset({"images"}), NONE)
    limits = KeyLimits(pictures_per_minute=90.5, burst=10, concurrent_pictures=4)
    assert second == KeyRecord("ben-2.b_c", bytes.fromhex(OTHER), frozenset({"images", "operate"}), limits)


def test_the_lines_of_the_documents_are_some() -> None:
    page = (Path(__file__).parents[3] / "docs" / "keys.md").read_text(encoding="utf-8")
    block = page.partition("```\n# ")[2].partition("```")[0]
    assert len(read_records(f"# {block}", NONE)) == 3


@pytest.mark.parametrize(
    "limits",
    [
        NONE,
        KeyLimits(pictures_per_minute=1_000_000, burst=1_000_000),
        KeyLimits(pictures_per_minute=0.125, concurrent_pictures=3),
    ],
)
def test_a_line_that_is_written_is_read_as_the_same(limits: KeyLimits) -> None:
    record = KeyRecord("ann", digest_of(b"a"), frozenset({"operate"}), limits)
    assert read_records(line_of(record), NONE) == (record,)


def test_what_a_line_does_not_say_is_the_servers_own() -> None:
    own = KeyLimits(pictures_per_minute=60, burst=5, concurrent_pictures=8)
    lines = [
        ("", own),
        ("concurrent_pictures=none", KeyLimits(pictures_per_minute=60, burst=5)),
        ("pictures_per_minute=none", KeyLimits(concurrent_pictures=8)),
        ("pictures_per_minute=6", KeyLimits(pictures_per_minute=6, concurrent_pictures=8)),
        ("burst=7 pictures_per_minute=6", KeyLimits(pictures_per_minute=6, burst=7, concurrent_pictures=8)),
    ]
    for options, limits in lines:
        [record] = read_records(f"ann:{ABC} {options}", own)
        assert record.limits == limits, options


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (SECRET, "must begin with NAME:SHA256"),
        (f"{SECRET}:{ABC[:-1]}", "must begin with NAME:SHA256"),
        (f"{SECRET}:{ABC.upper()}", "must begin with NAME:SHA256"),
        (f":{ABC}", "must begin with NAME:SHA256"),
        (f"a/{SECRET}:{ABC}", "must begin with NAME:SHA256"),
        (f"{'n' * 65}:{ABC}", "must begin with NAME:SHA256"),
        (f"ann: {ABC}", "must begin with NAME:SHA256"),
        (f"ann:{ABC} {SECRET}", "something else than an option"),
        (f"ann:{ABC} {SECRET}=1", "something else than an option"),
        (f"ann:{ABC} burst", "something else than an option"),
        (f"ann:{ABC} roles={SECRET}", "roles: must be some of images,operate"),
        (f"ann:{ABC} roles=", "roles: must be some of images,operate"),
        (f"ann:{ABC} roles=images roles=operate", "has roles twice"),
        (f"ann:{ABC} pictures_per_minute={SECRET}", "pictures_per_minute: has a value outside its limits"),
        (f"ann:{ABC} pictures_per_minute=nan", "pictures_per_minute: has a value outside its limits"),
        (f"ann:{ABC} pictures_per_minute=0", "pictures_per_minute: has a value outside its limits"),
        (f"ann:{ABC} pictures_per_minute=1 burst=0", "burst: has a value outside its limits"),
        (f"ann:{ABC} concurrent_pictures=1.5", "concurrent_pictures: has a value outside its limits"),
        (f"ann:{ABC} burst=5", "burst: does nothing without pictures_per_minute"),
        (f"one:{OTHER} roles=operate", "the digest of an earlier line"),
        (f"one:{ABC}", "has other options than an earlier line of the same name"),
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_nothing_of_it(line: str, why: str) -> None:
    text = f"# keys\none:{OTHER} roles=operate\n{line}\nlast:{ABC}"
    with pytest.raises(KeyLineError, match=f"^line 3: .*{re.escape(why)}") as raised:
        read_records(text, NONE)
    assert not [part for part in (SECRET, ABC, OTHER, ABC.upper()) if part in str(raised.value)]


def test_two_keys_may_have_one_name_while_one_takes_the_place_of_the_other() -> None:
    records = read_records(f"ann:{ABC} roles=operate\nann:{OTHER} roles=operate", NONE)
    assert [record.name for record in records] == ["ann", "ann"]
