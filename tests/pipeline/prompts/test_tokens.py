import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from transformers import CLIPTokenizer

from components.errors import ComponentError
from pipeline.prompts.fragments import Fragment, Section
from pipeline.prompts.tokens import PromptTokenizer
from tests.pipeline.conftest import TOKENS, WORDS, tokenizer
from tests.pipeline.prompts.conftest import EMOJI

ROOM = 30


@pytest.fixture(scope="module")
def tokens() -> PromptTokenizer:
    return PromptTokenizer(Tokenizer.from_file(str(EMOJI / "text_encoder" / "tokenizer.json")))


def section(text: str, weight: float = 1.0) -> Section:
    return (Fragment(text, weight),)


def cut(tokens: PromptTokenizer, *texts: str) -> list[list[str]]:
    """The chunks of sections, in words; of texts whose words are one token each."""
    words = {token.id: word for word in ("apple", "house", ",") for token in tokens.tokens(section(word))}
    chunks = tokens.chunks_at_commas([section(text) for text in texts])
    return [[words[token.id] for token in chunk] for chunk in chunks]


def test_a_row_is_what_transformers_makes(tokens: PromptTokenizer, clip_tokenizer: CLIPTokenizer) -> None:
    for text in ("", "a red apple, 3d style", "Dalí's <|endoftext|> (x)", "apple " * ROOM):
        [chunk] = tokens.chunks(tokens.tokens(section(text)))
        assert tokens.row(chunk) == clip_tokenizer(text, padding="max_length", truncation=True).input_ids


def test_fragments_are_tokenised_on_their_own_and_weigh_their_tokens(
    tokens: PromptTokenizer, clip_tokenizer: CLIPTokenizer
) -> None:
    fragments = (Fragment("a re", 1.0), Fragment("d apple" * 40, 1.5))
    found = tokens.tokens(fragments)
    parts = [clip_tokenizer(text, add_special_tokens=False).input_ids for text, _ in fragments]
    assert [token.id for token in found] == parts[0] + parts[1], "beyond the token limit too"
    assert [token.weight for token in found] == [1.0] * len(parts[0]) + [1.5] * len(parts[1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_marks_and_padding_weigh_1(side: str) -> None:
    words = tokenizer()
    words.enable_padding(length=TOKENS, pad_token="[PAD]", pad_id=0, direction=side)
    tokens = PromptTokenizer(words)
    chunk = tokens.tokens((Fragment("red apple", 2.0), Fragment("boat", 0.5)))
    [encoding] = tokens.encodings("red apple boat")
    assert tokens.row(chunk) == encoding.ids
    expected = {WORDS.index(word): weight for word, weight in (("red", 2.0), ("apple", 2.0), ("boat", 0.5))}
    assert tokens.row_weights(chunk) == [expected.get(id_, 1.0) for id_ in encoding.ids]


def test_a_long_text_without_commas_is_cut_where_its_room_ends(tokens: PromptTokenizer) -> None:
    for words in (0, 1, ROOM, ROOM + 1, 2 * ROOM, 2 * ROOM + 1):
        text = section("apple " * words)
        plain = tokens.chunks(tokens.tokens(text))
        assert [len(chunk) for chunk in plain] == [ROOM] * ((words - 1) // ROOM) + [
            words - max(0, (words - 1) // ROOM) * ROOM
        ]
        assert tokens.chunks_at_commas([text]) == plain


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        # the comma is `after` tokens from the end of the chunk
        (24, 5, 25),
        (10, 19, 11),
        (9, 20, 30),
        (29, 0, 30),
        (30, 0, 30),
    ],
)
def test_what_follows_a_near_comma_goes_to_the_next_chunk(
    tokens: PromptTokenizer, before: int, after: int, first: int
) -> None:
    words = ["apple"] * before + [","] + ["house"] * (after + 3)
    chunks = cut(tokens, "apple " * before + "," + " house" * (after + 3))
    assert chunks == [words[:first], words[first:]]


def test_only_a_comma_of_the_same_chunk_counts(tokens: PromptTokenizer) -> None:
    text = "apple " * 25 + "," + " house" * 40
    assert [len(chunk) for chunk in cut(tokens, text)] == [26, 30, 10]
    # a comma that finds no room any more begins the next chunk, and moves nothing later
    assert [len(chunk) for chunk in cut(tokens, "apple " * 30 + "," + " house" * 40)] == [30, 30, 11]
    # where the next token is a comma too, nothing moves
    assert [len(chunk) for chunk in cut(tokens, "apple " * 25 + "," + " house" * 4 + "," + " house")] == [30, 2]


def test_each_section_begins_a_chunk(tokens: PromptTokenizer) -> None:
    assert cut(tokens, "apple", "house") == [["apple"], ["house"]]
    assert cut(tokens, "apple", "", "house") == [["apple"], [], ["house"]]
    assert cut(tokens, "apple " * ROOM, "house") == [["apple"] * ROOM, ["house"]]
    assert cut(tokens, "apple", "") == [["apple"]], "nothing follows"
    assert cut(tokens, "", "") == cut(tokens, "") == [[]]
    assert cut(tokens, "apple,", "house " * 31) == [["apple", ","], ["house"] * 30, ["house"]]


@given(
    texts=st.lists(
        st.lists(st.sampled_from(["apple", "house", ","]), max_size=90).map(" ".join), min_size=1, max_size=3
    )
)
def test_no_token_is_lost_and_no_chunk_is_too_long(tokens: PromptTokenizer, texts: list[str]) -> None:
    chunks = tokens.chunks_at_commas([section(text) for text in texts])
    assert [token for chunk in chunks for token in chunk] == [t for text in texts for t in tokens.tokens(section(text))]
    assert all(len(chunk) <= ROOM for chunk in chunks)


@pytest.mark.parametrize(("single", "limit"), [("<s> $A </s>", 2), ("<s> </s>", TOKENS)])
def test_a_tokenizer_without_room_is_refused(single: str, limit: int) -> None:
    other = tokenizer()
    marks = [(mark, WORDS.index(mark)) for mark in ("<s>", "</s>")]
    other.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    other.enable_truncation(limit)
    with pytest.raises(ComponentError, match="its 2 tokens of a letter are all marks"):
        PromptTokenizer(other)
