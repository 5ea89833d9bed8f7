from pathlib import Path

import numpy as np
import pytest

from components.contract import Kind
from components.errors import ComponentError
from components.folder import ComponentFolder, record_files, write_manifest
from components.manifest import Manifest
from pipeline.text_encoder import TextEncoder
from runtime.settings import SessionSettings
from tests.pipeline.conftest import CONTRACTS, TOKENS, WIDTH, WORDS, Networks, tokenizer, write_component

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
