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
