import pytest

from runtime.errors import RuntimeFault
from runtime.golden import check_golden, require_golden
from runtime.session import Session
from runtime.settings import SessionSettings
from tests.runtime.conftest import MakeFolder

CPU = SessionSettings(threads=1, provider="cpu")


def test_a_faithful_copy_passes(make_folder: MakeFolder) -> None:
    folder = make_folder()
    session = Session.open(folder, CPU)
    require_golden(session, folder)
    (result,) = check_golden(session, folder)
    assert result.max_absolute_error < 1e-6


@pytest.mark.parametrize("offset", [0.01, float("nan"), float("inf")])
def test_another_output_does_not(make_folder: MakeFolder, offset: float) -> None:
    folder = make_folder(golden_offset=offset)
    with pytest.raises(RuntimeFault, match="0.npz is off by"):
        require_golden(Session.open(folder, CPU), folder)


def test_a_file_that_is_no_case_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder.path / "0.npz").write_bytes(b"no archive")
    with pytest.raises(RuntimeFault, match="0.npz: cannot be read as golden arrays"):
        check_golden(Session.open(folder, CPU), folder)
