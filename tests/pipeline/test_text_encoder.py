from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from tokenizers import Tokenizer

from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder, record_files, write_manifest
from components.manifest import Manifest
from pipeline.errors import RequestError
from pipeline.prompts.weighting import WEIGHTINGS
from pipeline.text_encoder import TextEncoder
from runtime.errors import RuntimeFault
from runtime.feeds import Feeds
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.pipeline.conftest import CONTRACTS, TOKENS, WIDTH, WORDS, Networks, tokenizer, write_component

ROOT = Path(__file__).parents[2]
CPU = SessionSettings(threads=1, provider="cpu")


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> TextEncoder:
    return TextEncoder(ComponentFolder.open(bundle / "text_encoder"), CPU)


def test_words_between_marks_and_padding(encoder: TextEncoder, networks: Networks) -> None:
    encoded = encoder.encode(["a red apple", ""])
    ids = [WORDS.index(word) for word in ("<s>", "a", "red", "apple", "</s>", "[PAD]", "[PAD]", "[PAD]")]
    hidden = encoded.arrays["hidden_states"]
    assert hidden.shape == (2, TOKENS, WIDTH)
    np.testing.assert_array_equal(hidden[0], networks.weights["embedding"][ids])
    np.testing.assert_array_equal(encoded.row(1)["hidden_states"], hidden[1:])
    assert encoded.truncated == (False, False)


def test_what_exceeds_the_limit_is_cut_and_reported(encoder: TextEncoder) -> None:
    fits, long = "apple " * (TOKENS - 2), "apple " * (TOKENS - 1)
    encoded = encoder.encode([fits, long])
    assert encoded.truncated == (False, True)
    np.testing.assert_array_equal(encoded.arrays["hidden_states"][0], encoded.arrays["hidden_states"][1])


def test_tokens_that_were_read_are_counted_without_marks_and_padding(encoder: TextEncoder) -> None:
    long = "apple " * (TOKENS - 1)
    assert encoder.encode(["a red apple", "", long]).tokens == (3, 0, TOKENS - 2)
    assert encoder.encode(["a red apple", long], max_chunks=2).tokens == (3, TOKENS - 1)
    assert encoder.encode(["apple " * 20], max_chunks=3).tokens == (3 * (TOKENS - 2),)


def test_a_long_text_goes_on_in_chunks_with_marks_of_their_own(encoder: TextEncoder, networks: Networks) -> None:
    words = "a red green apple blue boat a a"
    encoded = encoder.encode([words, "boat"], max_chunks=3)
    marked = [
        ["<s>", "a", "red", "green", "apple", "blue", "boat", "</s>"],
        ["<s>", "a", "a", "</s>", "[PAD]", "[PAD]", "[PAD]", "[PAD]"],
    ]
    hidden = encoded.arrays["hidden_states"]
    assert hidden.shape == (2, 2 * TOKENS, WIDTH), "no more chunks than the longest text has"
    ids = [WORDS.index(word) for chunk in marked for word in chunk]
    np.testing.assert_array_equal(hidden[0], networks.weights["embedding"][ids])
    assert encoded.truncated == (False, False)


def test_the_shorter_text_gets_chunks_of_the_empty_one(encoder: TextEncoder) -> None:
    long, short = "apple " * 20, "boat"
    empty, alone = (encoder.encode([text]).arrays["hidden_states"][0] for text in ("", short))
    for texts, place in (([long, short], 1), ([short, long], 0)):
        row = encoder.encode(texts, max_chunks=4).arrays["hidden_states"][place]
        np.testing.assert_array_equal(row, np.concatenate([alone, empty, empty, empty]))


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_what_exceeds_the_chunks_is_cut_and_reported(encoder: TextEncoder, chunks: int) -> None:
    fits, long = "apple " * (chunks * (TOKENS - 2)), "apple " * (chunks * (TOKENS - 2) + 1)
    encoded = encoder.encode([fits, long, "a"], max_chunks=chunks)
    hidden = encoded.arrays["hidden_states"]
    assert hidden.shape == (3, chunks * TOKENS, WIDTH)
    assert encoded.truncated == (False, True, False)
    np.testing.assert_array_equal(hidden[0], hidden[1])


@pytest.mark.parametrize("words", [0, 3, TOKENS - 2])
def test_texts_within_the_limit_are_one_chunk_however_many_may_be(encoder: TextEncoder, words: int) -> None:
    texts = ["apple " * words, ""]
    one, many = encoder.encode(texts), encoder.encode(texts, max_chunks=5)
    assert one.arrays["hidden_states"].tobytes() == many.arrays["hidden_states"].tobytes()
    assert many.arrays["hidden_states"].shape == (2, TOKENS, WIDTH)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_texts_bytes_hang_on_no_other_text_and_not_on_what_is_kept(threads: int, chunks: int) -> None:
    settings = SessionSettings(threads=threads, provider="cpu")
    emoji = TextEncoder(ComponentFolder.open(ROOT / "models" / "emoji" / "text_encoder"), settings)
    long, short = "a smiling face " * 25, "a red apple"
    first = emoji.encode([long, short], chunks)
    again = emoji.encode([long, short], chunks)
    alone = emoji.encode([short])
    hidden = first.arrays["hidden_states"]
    assert again.arrays["hidden_states"].tobytes() == hidden.tobytes()
    assert alone.arrays["hidden_states"][0].tobytes() == hidden[1, : alone.arrays["hidden_states"].shape[1]].tobytes()
    assert (again.truncated, again.tokens) == (first.truncated, first.tokens)
    # and they are those of one run of all rows
    words = Tokenizer.from_file(str(ROOT / "models" / "emoji" / "text_encoder" / "tokenizer.json"))
    encodings = [words.encode(text) for text in (long, short, "")]
    ids = [[part.ids for part in (encoding, *encoding.overflowing)] for encoding in encodings]
    rows = [row for own in ids[:2] for row in (own + ids[2] * chunks)[:chunks]]
    session = Session.open(ComponentFolder.open(ROOT / "models" / "emoji" / "text_encoder"), settings)
    [together] = session.run({"input_ids": np.array(rows)}, outputs=["hidden_states"]).values()
    assert together.tobytes() == hidden.tobytes()


def test_a_text_that_comes_again_is_not_run_again(bundle: Path) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / "text_encoder"), CPU)
    for texts, chunks, weighting, clip_skip, hits, misses in (
        (["a red apple", "boat"], 1, "none", 1, 0, 2),
        (["boat", "a red apple"], 1, "none", 1, 2, 2),
        (["boat", "boat"], 2, "none", 1, 3, 3),
        (["boat"], 1, "a1111", 1, 3, 4),
        (["(boat)"], 1, "a1111", 1, 3, 5),
        (["boat", "boat"], 1, "none", 2, 4, 6),
    ):
        encoder.encode(texts, chunks, weighting, clip_skip=clip_skip)
        figures = encoder.cache_figures
        assert (figures.hits, figures.misses, figures.prompts) == (hits, misses, misses)
    assert encoder.cache_figures.size == 6 * TOKENS * WIDTH * 4


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_skipped_layer_is_the_whole_of_what_is_encoded(bundle: Path, weighting: str) -> None:
    """Empty chunks too: a chunk of the last layer among others would be noise to a denoiser."""
    encoder = TextEncoder(ComponentFolder.open(bundle / "text_encoder"), CPU)
    texts = ["apple " * 10, "boat", ""]
    last, before = (
        encoder.encode(texts, 2, weighting, clip_skip=clip_skip).arrays["hidden_states"] for clip_skip in (1, 2)
    )
    np.testing.assert_allclose(before, np.tanh(last), atol=1e-6)
    assert last.shape == (3, 2 * TOKENS, WIDTH)


@pytest.mark.parametrize("clip_skip", [0, 3, -1, True, 1.0])
def test_a_layer_that_is_not_there_is_refused(encoder: TextEncoder, clip_skip: int) -> None:
    with pytest.raises(RequestError, match=f"clip_skip={clip_skip}: must be a whole number between 1 and 2"):
        encoder.encode(["boat"], clip_skip=clip_skip)


def test_only_the_layer_asked_for_is_fetched(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / "text_encoder"), CPU)
    fetched: list[set[str]] = []
    run = Session.run

    def recorded(session: Session, feeds: Feeds, **asked: Any) -> dict[str, Any]:
        found = run(session, feeds, **asked)
        fetched.append(set(found))
        return found

    monkeypatch.setattr(Session, "run", recorded)
    for clip_skip in (1, 2):
        encoder.encode(["boat"], clip_skip=clip_skip)
    assert fetched == [{"hidden_states"}, {"hidden_states_1"}]


def test_nobody_can_change_what_others_get(encoder: TextEncoder) -> None:
    encoded = encoder.encode(["a red apple", "boat"])
    for array in (encoded.arrays["hidden_states"], encoded.row(0)["hidden_states"]):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_a_probe_runs_the_session_whatever_is_kept(bundle: Path) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / "text_encoder"), CPU)
    encoder.encode([""])
    encoder.probe()
    encoder._session = Broken()  # type: ignore[assignment]
    encoder.encode([""])
    with pytest.raises(RuntimeFault, match="the device is lost"):
        encoder.probe()


def test_a_run_that_fails_leaves_nothing_behind(bundle: Path) -> None:
    encoder = TextEncoder(ComponentFolder.open(bundle / "text_encoder"), CPU)
    session, encoder._session = encoder._session, Broken()  # type: ignore[assignment]
    with pytest.raises(RuntimeFault):
        encoder.encode(["boat"])
    encoder._session = session
    assert np.isfinite(encoder.encode(["boat"]).arrays["hidden_states"]).all()


class Broken:
    def run(self, _: object, **_outputs: object) -> NoReturn:
        raise RuntimeFault("text_encoder: the device is lost")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: FileNotFoundError"),
        (b"\xff", "cannot be read: UnicodeDecodeError"),
        (b"{}", "is no tokenizer"),
        ("other limit", "cuts at 9 tokens and pads to 8, the contract says 8"),
        ("no padding", "cuts at 8 tokens and pads to None, the contract says 8"),
    ],
)
def test_a_tokenizer_that_will_not_do_is_refused(
    networks: Networks, tmp_path: Path, content: bytes | str | None, words: str
) -> None:
    path = tmp_path / "text_encoder"
    write_component(path, CONTRACTS[Kind.TEXT_ENCODER], networks)
    other = tokenizer()
    if content == "other limit":
        other.enable_truncation(TOKENS + 1)
    elif content == "no padding":
        other.no_padding()
    (path / "tokenizer.json").write_bytes(content if isinstance(content, bytes) else other.to_str().encode())
    if content is None:
        (path / "tokenizer.json").unlink()
    with pytest.raises(ComponentError, match=words) as caught:
        TextEncoder(_reopened(path), CPU)
    assert str(tmp_path) not in str(caught.value)


def _reopened(path: Path) -> ComponentFolder:
    manifest = Manifest.model_validate_json((path / "component.json").read_text(encoding="utf-8"))
    return write_manifest(path, manifest.model_copy(update={"files": record_files(path)}))
