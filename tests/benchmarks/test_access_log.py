from pathlib import Path

import pytest

from benchmarks import access_log
from benchmarks.access_log import durations_ms, read_durations
from benchmarks.errors import BenchmarkError

START = "INFO 2026-11-24 12:14:10,485"
LINES = [
    f"{START} default_text_encoder g872kogf bench-1 -- CALL encode OK 7.7ms",
    f"{START} default_denoiser 2gtuc2dn bench-1 -- CALL denoise OK 3189.8ms",
    f"{START} default_denoiser 2gtuc2dn bench-2 -- CALL denoise OK 12.0ms",
    f"{START} default_vae_decoder 9ds0q0e1 bench-1 -- CALL decode OK 125.1ms",
    f"{START} default_graph q9pw1909 bench-1 -- CALL draw OK 3547.9ms",
]
OTHERS = [
    f"{START} default_denoiser 2gtuc2dn -- Finished initializing replica.",
    f"{START} default_denoiser 2gtuc2dn bench-3 -- CALL denoise ERROR 5.0ms",
    f"{START} default_ingress flvzcb61 bench-1 -- POST /v1/images/generations 200 3583.7ms",
    f"{START} proxy 192.0.2.2 bench-1 -- POST /v1/images/generations 200 3602.2ms",
    "ERROR 2026-11-24 12:14:10,485 default_denoiser 2gtuc2dn bench-4 -- CALL denoise OK 1.0ms",
    "",
]


def test_answered_calls_are_found_by_request_and_deployment() -> None:
    assert durations_ms(LINES + OTHERS) == {
        "bench-1": {"text_encoder": 7.7, "denoiser": 3189.8, "vae_decoder": 125.1, "graph": 3547.9},
        "bench-2": {"denoiser": 12.0},
    }


def test_only_the_asked_requests_are_read_from_all_logs(tmp_path: Path) -> None:
    for number, line in enumerate(LINES + OTHERS):
        (tmp_path / f"replica_{number}.log").write_text(line + "\n")
    found = read_durations(tmp_path, ["bench-1"])
    assert found.keys() == {"bench-1"}
    assert found["bench-1"]["denoiser"] == 3189.8


def test_a_request_that_a_deployment_does_not_tell_of_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "_WRITTEN_WITHIN_S", 0.0)
    (tmp_path / "replica.log").write_text("\n".join(LINES))
    with pytest.raises(BenchmarkError, match=r"requests at graph, text_encoder, vae_decoder$"):
        read_durations(tmp_path, ["bench-1", "bench-2"])
