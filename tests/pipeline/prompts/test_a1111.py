import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RequestError
from pipeline.prompts import a1111

# the grammar's own marks, and what stands between them
PIECES = st.sampled_from(["(", ")", "[", "]", "\\", ":", ":1.5)", ": .5 )", ":-2)", "1", ".", "a", "b ", "BREAK", " "])
PROMPTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


def pairs(text: str) -> list[list[tuple[str, float]]]:
    return [[(part, round(weight, 9)) for part, weight in section] for section in a1111.parse(text)]


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", []),
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("an ((important)) word", [("an ", 1.0), ("important", 1.21), (" word", 1.0)]),
        ("a [plain] word", [("a ", 1.0), ("plain", 0.909090909), (" word", 1.0)]),
        ("(a [b] c)", [("a ", 1.1), ("b", 1.0), (" c", 1.1)]),
        ("(b:0)", [("b", 0.0)]),
        ("(b:-1.5)", [("b", -1.5)]),
        ("(b:+.5)(c: 2. )", [("b", 0.5), ("c", 2.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("((two", [("two", 1.21)]),
        ("[less", [("less", 0.909090909)]),
        ("un)bal]anced:1.5)", [("un)bal]anced:1.5)", 1.0)]),
        ("[b:1.3]", [("b:1.3", 0.909090909)]),
        ("[b:1.3)", [("b:1.3)", 0.909090909)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        (r"(a \(b\):1.5) \\ \[", [("a (b)", 1.5), (" \\ [", 1.0)]),
        (r"a\b", [("ab", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("()", []),
        ("a: b", [("a: b", 1.0)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        # no numbers to A1111
        ("(x:nan)", [("x:nan", 1.1)]),
        ("(x:inf)", [("x:inf", 1.1)]),
        ("(x:1e9)", [("x:1e9", 1.1)]),
        ("(x:1.2.3)", [("x:1.2.3", 1.1)]),
        ("(x:)", [("x:", 1.1)]),
    ],
)
def test_text_means_what_a1111_says(text: str, fragments: list[tuple[str, float]]) -> None:
    assert pairs(text) == [fragments]


def test_brackets_multiply_from_the_inside_out() -> None:
    # the last bits that A1111's own documentation shows
    [[house]] = a1111.parse("(((house:1.3)))")
    assert house.weight == 1.3 * 1.1 * 1.1 == 1.5730000000000004


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("a BREAK b", [[("a", 1.0)], [("b", 1.0)]]),
        ("a BREAK BREAK b", [[("a", 1.0)], [], [("b", 1.0)]]),
        ("a BREAK b BREAK c", [[("a", 1.0)], [("b", 1.0)], [("c", 1.0)]]),
        ("BREAK", [[], []]),
        ("a, \n BREAK\n b", [[("a,", 1.0)], [("b", 1.0)]]),
        ("BREAKFAST break aBREAK", [[("BREAKFAST break aBREAK", 1.0)]]),
        ("(a BREAK b:1.5) c", [[("a", 1.5)], [("b", 1.5), (" c", 1.0)]]),
        ("(a)BREAK[b]", [[("a", 1.1)], [("b", 0.909090909)]]),
    ],
)
def test_a_break_ends_a_section(text: str, sections: list[list[tuple[str, float]]]) -> None:
    assert pairs(text) == sections


@given(PROMPTS)
def test_any_text_is_read(text: str) -> None:
    for section in a1111.parse(text):
        assert all(part for part, _ in section), "nothing is weighed that says nothing"
        assert all(one.weight != other.weight for one, other in pairwise(section))


@given(st.text().filter(lambda text: "BREAK" not in text))
def test_what_is_escaped_is_text(text: str) -> None:
    escaped = re.sub(r"([()\[\]\\])", r"\\\1", text)
    assert pairs(escaped) == [[(text, 1.0)] if text else []]


@given(
    PROMPTS.filter(lambda text: not re.search(r"\\|BREAK", text)), st.floats(0.25, 4).map(lambda value: round(value, 3))
)
def test_a_bracket_around_balanced_text_multiplies_each_weight(text: str, factor: float) -> None:
    inner = re.sub(r"[()\[\]:]", "", text) + "(b)[c]"
    [section] = a1111.parse(inner)
    assert pairs(f"({inner}:{factor})") == [[(part, round(weight * factor, 9)) for part, weight in section]]


@pytest.mark.parametrize("count", [1, 5, 70])
def test_unclosed_brackets_weigh_to_the_end(count: int) -> None:
    [[fragment]] = a1111.read("prompt", "(" * count + "x")
    assert fragment.text == "x"
    assert fragment.weight == pytest.approx(1.1**count)


@pytest.mark.parametrize(
    "text",
    [
        "(x:1000.1)",
        "(x:-2000)",
        "((x:900):2)",
        f"(x:{'9' * 3000})",
        "(" * 80 + "x",
        "(" * 20000 + "x" + ")" * 20000,
        "(" * 9000 + "x" + ")" * 8999 + ":0)",
        "a BREAK (secret:1001)",
    ],
)
def test_a_weight_beyond_the_limits_is_refused_and_the_text_not_quoted(text: str) -> None:
    with pytest.raises(
        RequestError, match=r"negative: gives a part the weight .*, must be between -1000 and 1000"
    ) as caught:
        a1111.read("negative", text)
    assert caught.value.field == "negative"
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "text",
    [
        ")" * 20000 + "x",
        "([" * 10000 + "x" + "])" * 10000,
        "()" * 20000,
        "(a)[b]" * 5000,
        ":" * 40000,
        ": " * 20000,
        f"(x:{' ' * 40000}",
        f"(x:{'1' * 40000}",
        f"(x:{'.' * 40000}",
        " " * 40000 + "BREAK" + " " * 40000,
        "BREAK " * 8000,
        "\\" * 40001,
    ],
    ids=range(12),
)
def test_long_odd_texts_are_read(text: str) -> None:
    assert a1111.read("prompt", text)
