"""`python -m diffusion.samplers.reference FILE`: the page of samplers and sigma schedules, made from the code."""

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from diffusion.samplers.aliases import SAMPLER_NAMES, SCHEDULE_NAMES
from diffusion.samplers.row import SamplerRow
from diffusion.samplers.table import SAMPLERS
from diffusion.sigma_schedules import DEFAULT, SIGMA_SCHEDULES

_INTRODUCTION = """\
# Samplers and sigma schedules

Written by `make docs`. A request names a sampler by any of its names, in any case: ours, the class in diffusers, the
label in A1111, the name in ComfyUI. A schedule may follow, as in "DPM++ 2M Karras". A sampler that diffusers has gives
what diffusers gives for the same network, noise and checkpoint: `tests/diffusion/test_parity_table.py` compares them.
`dpmpp_3m_sde` is that of k-diffusion, which differs from diffusers' in one sign; `dpmpp_2s_ancestral` it lacks.
"""

_SAMPLERS_NOTE = """\
Evaluations are runs of the network. The order is the power of the step with which the error falls; a stochastic sampler
has none. DDIM is stochastic for an eta over 0.
"""

_SCHEDULES_NOTE = """\
How the noise falls from step to step. A sampler that takes "default" alone walks whole timesteps; "all for flows" are
default, karras, exponential and beta, as a flow has no table of trained sigmas to take them from.
"""

_CONVERGENCE = """\
## Order of convergence

![error against evaluations of the network, both on logarithmic axes](convergence.png)

The deterministic samplers on a mixture of two Gaussians, whose exact denoiser and solution are known; float64, sigma 10
to 0.1 in even steps of its logarithm (flows: 0.99 to 0.1, in even steps). Slopes are fitted over 32 to 256 steps.
Multistep methods take their first steps, which have no past yet, with lower order, and end at order 2. Made by
`python -m tests.diffusion.convergence docs/convergence.png`; `tests/diffusion/test_properties.py` checks the slopes.
"""

# a citation, perhaps with the place in the paper
_CITED = re.compile(
    r"\b([A-Z]\w+ (?:et al\.|and [A-Z]\w+) \d{4}[a-z]?)"
    r"((?:, (?:algorithm|equation|appendix)s? \w+(?:\(\w+\))?(?: and \w+)*)?)"
)

# as the docstrings cite them
PAPERS = {
    "Bashforth and Adams 1883": "An Attempt to Test the Theories of Capillary Action",
    "Ho et al. 2020": "Denoising Diffusion Probabilistic Models, arXiv:2006.11239",
    "Karras et al. 2022": "Elucidating the Design Space of Diffusion-Based Generative Models, arXiv:2206.00364",
    "Lee et al. 2024": "Beta Sampling is All You Need, arXiv:2407.12173",
    "Liu et al. 2022": "Pseudo Numerical Methods for Diffusion Models on Manifolds, arXiv:2202.09778",
    "Lu et al. 2022a": "DPM-Solver, arXiv:2206.00927",
    "Lu et al. 2022b": "DPM-Solver++, arXiv:2211.01095",
    "Luo et al. 2023": "Latent Consistency Models, arXiv:2310.04378",
    "Sabour et al. 2024": "Align Your Steps, arXiv:2404.14507",
    "Song et al. 2021": "Denoising Diffusion Implicit Models, arXiv:2010.02502",
    "Song et al. 2023": "Consistency Models, arXiv:2303.01469",
    "Zhang and Chen 2023": "Fast Sampling of Diffusion Models with Exponential Integrator, arXiv:2204.13902",
    "Zhao et al. 2023": "UniPC, arXiv:2302.04867",
    "Zheng et al. 2024": "Trajectory Consistency Distillation, arXiv:2402.19159",
}

_EVALUATIONS = {
    "once": "1",
    "where it lands": "2, last 1",
    "between": "2, last 1",
    "between ancestral": "2, last 1",
}


def page() -> str:
    """The whole page, in Markdown; raises KeyError for a cited paper that PAPERS lacks."""
    samplers = _table(
        ("sampler", "also", "evaluations a step", "order", "needs noise", "eta", "schedules", "predictions", "papers"),
        map(_sampler, SAMPLERS.values()),
    )
    schedules = _table(("schedule", "also", "what it does", "papers"), map(_schedule, SIGMA_SCHEDULES))
    papers = _table(("paper", "title"), PAPERS.items())
    parts = [_INTRODUCTION, "## Samplers", _SAMPLERS_NOTE, samplers, "## Sigma schedules", _SCHEDULES_NOTE, schedules]
    return "\n\n".join(part.strip() for part in [*parts, _CONVERGENCE, "## Papers", papers]) + "\n"


def _sampler(row: SamplerRow) -> Iterator[str]:
    yield f"`{row.name}`"
    yield ", ".join(f"`{name}`" if name.endswith("Scheduler") else name for name in SAMPLER_NAMES[row.name])
    extra = "; second step twice, or the first 3 take 12" if row.conventions.places == "second twice" else ""
    yield _EVALUATIONS[row.conventions.asks] + extra
    yield "stochastic" if row.order is None else f"{row.order}"
    yield "yes" if row.draws else ("for eta" if row.takes_eta else "no")
    yield f"0 to 1, else {row.eta:g}" if row.takes_eta else "no"
    yield _schedules(row)
    yield ", ".join(row.prediction_types)
    yield _cited(inspect.getdoc(row.factory))


def _schedules(row: SamplerRow) -> str:
    if row.sigma_schedules == (DEFAULT,):
        return DEFAULT
    return "all for flows" if row.flow else "all"


def _schedule(name: str) -> Iterator[str]:
    yield f"`{name}`"
    yield ", ".join(SCHEDULE_NAMES[name])
    row = SIGMA_SCHEDULES[name]
    described = inspect.getdoc(row.spread or row.timesteps) or "Take the sigmas of the spaced timesteps."
    yield re.split(r"[:.](?: |$)", " ".join(described.split()))[0] + "."
    yield _cited(described)


def _cited(docstring: str | None) -> str:
    found = _CITED.findall(" ".join((docstring or "").split()))
    for paper, _ in found:
        PAPERS[paper]
    return "; ".join(dict.fromkeys(paper + place for paper, place in found))


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(cells) for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write the page of samplers and sigma schedules.")
    parser.add_argument("file", type=Path, help="where the page goes")
    parser.parse_args().file.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
