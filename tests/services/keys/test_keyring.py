"""Whose a key is: found in constant time, and what was used outlives another file."""

import hmac
from collections.abc import Sequence

import pytest

from services.errors import KeyLimitError
from services.keys import keyring as room
from services.keys.keyring import ANYBODY, Caller, Keyring
from services.keys.records import KeyRecord, Role, digest_of
from services.keys.settings import KeyLimits

KEYS = [f"lw-{number}" for number in range(5)]


def record(name: str, key: str, roles: Sequence[Role] = ("images",), **limits: float) -> KeyRecord:
    return KeyRecord(name, digest_of(key.encode()), frozenset(roles), KeyLimits.model_validate(limits))


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([record(f"name-{key}", key) for key in KEYS])


def test_each_key_is_its_names(keyring: Keyring) -> None:
    found = [keyring.find(key.encode()) for key in KEYS]
    assert [one and one.tenant for one in found] == [f"name-{key}" for key in KEYS]


@pytest.mark.parametrize("key", [b"", b"lw-", b"lw-5", b"lw-0 ", b"LW-0", "lw-ö".encode(), digest_of(b"lw-0")])
def test_others_are_nobodys(keyring: Keyring, key: bytes) -> None:
    assert keyring.find(key) is None


@pytest.mark.parametrize("key", [KEYS[0], KEYS[-1], "another"])
def test_every_digest_is_compared_whichever_it_is_and_in_constant_time(
    keyring: Keyring, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    class Watched:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(room, "hmac", Watched)
    keyring.find(key.encode())
    assert compared == [(digest_of(known.encode()), digest_of(key.encode())) for known in KEYS]


def test_a_digest_compares_only_by_that_function(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        @staticmethod
        def compare_digest(_one: bytes, _other: bytes) -> bool:
            return False

    monkeypatch.setattr(room, "hmac", Never)
    assert keyring.find(KEYS[0].encode()) is None


def found(keyring: Keyring, key: str) -> Caller:
    caller = keyring.find(key.encode())
    assert caller is not None
    return caller


def refused(caller: Caller) -> bool:
    try:
        with caller.admitted(1):
            return False
    except KeyLimitError:
        return True


def test_other_keys_take_the_place_of_the_old_and_what_was_used_counts_on() -> None:
    keyring = Keyring([record("ann", "a", concurrent_pictures=1), record("ben", "b")], clock=lambda: 0.0)
    with found(keyring, "a").admitted(1):
        keyring.replace([record("ann", "a2", ("operate",), concurrent_pictures=1), record("cid", "c")])
        assert [keyring.find(key) is None for key in (b"a", b"b", b"a2", b"c")] == [True, True, False, False]
        assert len(keyring) == 2
        assert found(keyring, "a2").roles == {"operate"}
        assert refused(found(keyring, "a2"))
        keyring.replace([record("ann", "a2", concurrent_pictures=2)])
        assert not refused(found(keyring, "a2"))
    assert not refused(found(keyring, "a2"))


def test_two_keys_of_a_name_share_what_it_may_ask_for() -> None:
    keyring = Keyring([record("ann", "a", concurrent_pictures=1), record("ann", "a2", concurrent_pictures=1)])
    with found(keyring, "a").admitted(1):
        assert refused(found(keyring, "a2"))


def test_whose_share_and_whose_latents() -> None:
    ann, ben = Caller("ann"), Caller("ben")
    assert {ann.share_of(""), ann.share_of("me")} == {"ann"}, "a key's share does not grow with its users"
    owners = [one.owner_of(user) for one in (ann, ben) for user in ("", "me", "ann", "/", "ann/me")]
    assert len(set(owners)) == len(owners)
    for user in ("", "me"):
        assert (ANYBODY.share_of(user), ANYBODY.owner_of(user)) == (user, user)
