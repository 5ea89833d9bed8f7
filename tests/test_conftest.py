"""That nothing is skipped in CI: pytest runs within pytest, with the conftest of these tests."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='why')\ndef test_it(): pass\n",
    "call": "import pytest\ndef test_it(): pytest.skip('why')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef skipping(): pytest.skip('why')\ndef test_it(skipping): pass\n",
    "module": "import pytest\npytest.skip('why', allow_module_level=True)\n",
    "import": "import pytest\npytest.importorskip('why_there_is_no_such_package')\ndef test_it(): pass\n",
}
OTHERS = """
import pytest
def test_it(): pass
@pytest.mark.xfail
def test_known(): assert False
def test_xfails(): pytest.xfail("known")
"""


@pytest.fixture
def nested(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    return pytester


@pytest.mark.parametrize("skip", SKIPS)
def test_in_ci_a_skip_fails(nested: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, skip: str) -> None:
    monkeypatch.setenv("CI", "true")
    nested.makepyfile(SKIPS[skip])
    result = nested.runpytest()
    assert result.ret != pytest.ExitCode.OK
    assert result.parseoutcomes().keys() <= {"failed", "errors"}
    result.stdout.fnmatch_lines(["*test_in_ci_a_skip_fails.py*: skipped in CI, where everything must run: *why*"])


@pytest.mark.parametrize("skip", SKIPS)
def test_elsewhere_it_is_a_skip(nested: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, skip: str) -> None:
    monkeypatch.delenv("CI", raising=False)
    nested.makepyfile(SKIPS[skip])
    nested.runpytest().assert_outcomes(skipped=1)


def test_in_ci_nothing_else_changes(nested: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    nested.makepyfile(OTHERS)
    nested.runpytest().assert_outcomes(passed=1, xfailed=2)
