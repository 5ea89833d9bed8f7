"""Real requests, their timelines, and the simulation beside them: once, on a server of its own."""

from pathlib import Path

import pytest

from benchmarks.plan import calibration, check
from benchmarks.plan.demand import mix_of
from benchmarks.plan.plots import plot_check


@pytest.mark.slow
def test_a_load_is_served_and_simulated(toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what is held here is that it works: the figures are a quiet machine's
    monkeypatch.setattr(calibration, "_PAUSE_S", (0.0, 0.0))
    monkeypatch.setattr(check, "_CAPACITY_S", 3.0)
    monkeypatch.setattr(check, "MOST_APART", 1e6)
    found = check.check(toy_bundle, mix_of("4x64x64=1,8x128x64=1"), [0.3], 4.0, lambda _: None)
    [one] = found.loads
    assert found.capacity > 0
    assert one.tries == 1
    assert one.served.refused == one.simulated.refused == 0
    # the same requests came to both
    assert len(one.served.seconds) == len(one.simulated.seconds) > 0
    for size, pixels in (("64x64", 64), ("128x64", 128)):
        times = found.times.sizes[size]
        assert times.latent_pixels == pixels
        assert 2 in times.run_s
        assert set(times.run_s) <= {2, 4, 6, 8}
        assert min(times.run_s.values()) > 0
        assert min(times.ingress_s, times.graph_s, times.text_encoder_s, times.vae_decoder_s) > 0
    plot_check(found, tmp_path / "check.png")
    assert (tmp_path / "check.png").read_bytes().startswith(b"\x89PNG")
