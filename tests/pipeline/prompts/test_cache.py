import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompts.cache import CacheFigures, ConditioningCache, cache_key
from pipeline.prompts.weighting import EncodedPrompt


def prompt(value: float = 0.0, floats: int = 4) -> EncodedPrompt:
    return EncodedPrompt({"hidden_states": np.full((1, floats, 1), value, np.float32)}, False, 1)


def test_what_is_kept_is_found_and_cannot_be_changed() -> None:
    cache, kept = ConditioningCache(100), prompt(3)
    assert cache.find(b"a") is None
    cache.keep(b"a", kept)
    assert cache.find(b"a") is kept
    with pytest.raises(ValueError, match="read-only"):
        kept.arrays["hidden_states"][0] = 1
    assert cache.figures == CacheFigures(hits=1, misses=1, prompts=1, size=16)


def test_those_unused_the_longest_go() -> None:
    cache = ConditioningCache(3 * 16)
    for key in (b"a", b"b", b"c"):
        cache.keep(key, prompt())
    cache.find(b"a")
    cache.keep(b"d", prompt())
    assert [cache.find(key) is None for key in (b"a", b"b", b"c", b"d")] == [False, True, False, False]
    cache.keep(b"e", prompt(floats=12))
    assert cache.figures[2:] == (1, 48)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_faults_arrays_are_not_kept(value: float) -> None:
    cache = ConditioningCache(100)
    cache.keep(b"a", prompt(value))
    assert cache.find(b"a") is None


def test_what_is_more_than_all_room_displaces_nothing() -> None:
    cache = ConditioningCache(16)
    cache.keep(b"a", prompt())
    cache.keep(b"b", prompt(floats=5))
    assert cache.figures[2:] == (1, 16)
    nothing = ConditioningCache(0)
    nothing.keep(b"a", prompt())
    assert nothing.figures[2:] == (0, 0)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(1, 9)), max_size=40))
def test_the_size_is_that_of_what_is_kept_and_within_its_bound(asked: list[tuple[bytes, int]]) -> None:
    cache = ConditioningCache(60)
    for key, floats in asked:
        cache.keep(key, prompt(floats=floats))
        kept = [found for each in (b"a", b"b", b"c", b"d") if (found := cache.find(each)) is not None]
        assert cache.figures.size == sum(found.arrays["hidden_states"].nbytes for found in kept) <= 60
        assert cache.figures.prompts == len(kept)
        assert kept, "one fits"


def test_threads_share_it() -> None:
    cache, rounds = ConditioningCache(5 * 16), 2000

    def work(first: int) -> None:
        for turn in range(rounds):
            value = (first + turn) % 9
            key = b"%d" % value
            found = cache.find(key)
            if found is None:
                cache.keep(key, prompt(value))
            else:
                assert found.arrays["hidden_states"][0, 0, 0] == value

    failed: list[object] = []
    before, threading.excepthook = threading.excepthook, failed.append
    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threading.excepthook = before
    figures = cache.figures
    assert not failed
    assert figures.hits + figures.misses == 4 * rounds
    assert (figures.prompts, figures.size) == (5, 80)


def test_text_weighting_chunks_and_layer_make_the_key() -> None:
    asked = [
        (text, weighting, *numbers)
        for text in ("a", "a ", "")
        for weighting in ("none", "a1111")
        for numbers in ((1, 1), (2, 1), (1, 2), (1, 12), (11, 2))
    ]
    assert len({cache_key(*each) for each in asked}) == len(asked)
    assert cache_key("a", "none", 1, 1) == cache_key("a", "none", 1, 1)
