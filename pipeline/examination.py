"""Trying a component: its golden cases, the whole chain with it, and the version that it would replace beside it."""

import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.compatibility import interchangeable
from components.contract import Kind
from components.errors import ComponentError
from components.messages import FloatArray, Pixels
from components.pictures import contact_sheet, to_pictures
from components.trial import DRAWN, TrialOrder, TrialReport, needs_more_memory
from diffusion.latents import to_model
from pipeline.denoiser import Denoiser
from pipeline.errors import RequestError
from pipeline.own_memory import status_bytes
from pipeline.text_encoder import TextEncoder
from pipeline.trial_parts import Part, Stages, missing_beside, open_beside
from pipeline.trial_pictures import FLATTEST, PROMPTS, contrasts, prompt_latents, psnr, psnr_of_each
from pipeline.vae_decoder import PictureFault, VaeDecoder
from runtime.errors import RuntimeFault
from runtime.feeds import Feeds
from runtime.golden import check_golden, golden_inputs

# twenty times what our exporter states, on values around 1
LOOSEST_GOLDEN = 0.01

_FOUR = "pictures of four prompts"


@dataclass(slots=True)
class _Findings:
    """What a trial has found so far."""

    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    compared: str | None = None
    beside: Stages = field(default_factory=dict)
    pictures: list[Pixels] = field(default_factory=list)
    current_pictures: list[Pixels] = field(default_factory=list)

    def note_psnr(self, found: Sequence[float], what: str) -> None:
        if found:
            self.figures |= {"psnr_min": float(np.min(found)), "psnr_mean": float(np.mean(found))}
            self.compared = what

    def report(self) -> TrialReport:
        return TrialReport(
            reasons=tuple(self.reasons),
            notes=tuple(self.notes),
            figures={name: float(value) for name, value in self.figures.items() if np.isfinite(value)},
            compared=self.compared,
        )


def try_component(order: TrialOrder) -> TrialReport:
    """Try a component by an order; whatever is wrong with it is a reason in the report."""
    findings = _Findings()
    try:
        _try(order, findings)
    except (ComponentError, RuntimeFault, RequestError, MemoryError) as error:
        findings.reasons.append(_sentence(error, order))
    findings.figures["peak_memory_mb"] = _peak_memory_mb()
    if order.pictures is not None and findings.pictures:
        contact_sheet([findings.pictures, findings.current_pictures]).save(order.pictures, format="PNG")
    return findings.report()


def _try(order: TrialOrder, findings: _Findings) -> None:
    began = time.perf_counter()
    candidate = Part.open(order.candidate, order)
    findings.figures["open_s"] = time.perf_counter() - began
    _hold_to_golden(candidate, findings)
    if candidate.decodes:
        findings.pictures = _decoded(candidate, candidate)
        _require_lively(findings.pictures, "the picture of golden latents", findings)
    if candidate.contract.kind in DRAWN and not findings.reasons:
        _draw(candidate, order, findings)
    _compare(candidate, order, findings)
    _hold_to_tolerance(order, findings)


def _hold_to_golden(candidate: Part, findings: _Findings) -> None:
    kind = candidate.contract.kind
    began = time.perf_counter()
    errors = check_golden(candidate.session, candidate.folder)
    if not errors:
        findings.reasons.append(f"{kind}: no golden case to test it by")
        return
    findings.figures["run_s"] = (time.perf_counter() - began) / len(errors)
    # np.max, because Python's would drop a NaN that is not the first
    findings.figures["golden_error"] = float(np.max([error.max_absolute_error for error in errors]))
    for error in errors:
        allowed = min(error.tolerance, _loosest(candidate, error.file))
        # not the other way round: an error that is no number is too large
        if not error.max_absolute_error <= allowed:
            findings.reasons.append(
                f"{kind}: golden case {error.file} is off by {error.max_absolute_error:g}, "
                f"at most {allowed:g} is allowed"
            )


def _loosest(candidate: Part, file: str) -> float:
    """The most that a case may allow, whatever it states: a share of the largest value that each output must have."""
    with np.load(candidate.folder.path / file, allow_pickle=False) as arrays:
        largest = min(float(np.abs(arrays[f"output.{spec.name}"]).max()) for spec in candidate.contract.outputs)
    return max(LOOSEST_GOLDEN, LOOSEST_GOLDEN * largest)


def _decoded(decoder: Part, golden: Part) -> list[Pixels]:
    """What a decoder makes of the latents of golden cases, picture by picture."""
    pictures: list[Pixels] = []
    for feeds in golden_inputs(golden.session, golden.folder):
        decoded, finite = _decode(decoder, feeds)
        if not finite:
            raise RuntimeFault(f"{decoder.contract.kind}: gave {PictureFault.NON_FINITE} for golden latents")
        pictures += decoded
    return pictures


def _decode(decoder: Part, feeds: Feeds) -> tuple[list[Pixels], bool]:
    if not isinstance(decoder.stage, VaeDecoder):
        pixels = decoder.session.run(feeds)["pixels"]
        return to_pictures(pixels), bool(np.isfinite(pixels).all())
    # by way of the stage: a graph that only takes other arrays than the chain's cannot pass
    space = decoder.stage.space
    decoded = decoder.stage.decode_each(to_model(feeds["latents"], space.scaling_factor, space.shift_factor))
    return list(decoded.pixels), PictureFault.NON_FINITE not in decoded.faults


def _draw(candidate: Part, order: TrialOrder, findings: _Findings) -> None:
    kind = candidate.contract.kind
    if missing := missing_beside(kind, order):
        findings.notes.append(f"drawn with nothing: the bundle has no {' and no '.join(missing)}")
        return
    findings.beside = open_beside(kind, order)
    began = time.perf_counter()
    findings.pictures = list(_pictures(findings.beside | {kind: candidate.stage}, order.steps))
    findings.figures["picture_s"] = (time.perf_counter() - began) / len(PROMPTS)
    _require_lively(findings.pictures, "the picture of prompt", findings)


def _pictures(chain: Stages, steps: int) -> Iterator[Pixels]:
    decoder = chain[Kind.VAE_DECODER]
    assert isinstance(decoder, VaeDecoder), "a stage under another kind's name"
    for latents in _latents(chain, steps):
        yield decoder.decode_each(latents).pixels[0]


def _latents(chain: Stages, steps: int) -> Iterator[FloatArray]:
    encoder, denoiser = chain[Kind.TEXT_ENCODER], chain[Kind.DENOISER]
    assert isinstance(encoder, TextEncoder), "a stage under another kind's name"
    assert isinstance(denoiser, Denoiser), "a stage under another kind's name"
    return prompt_latents(encoder, denoiser, steps)


def _require_lively(pictures: Sequence[Pixels], what: str, findings: _Findings) -> None:
    found = contrasts(pictures)
    if found:
        findings.figures["contrast_min"] = min(found)
    findings.reasons += [
        f"{what} {number} is flat: its standard deviation is {contrast:.2g} of 255, at least {FLATTEST:g} is asked"
        for number, contrast in enumerate(found, start=1)
        if not contrast >= FLATTEST
    ]


def _compare(candidate: Part, order: TrialOrder, findings: _Findings) -> None:
    """Measure how far the candidate is from the current version; a note says why where that cannot be done."""
    if order.current is None:
        findings.notes.append("compared with nothing: there is no current version")
        return
    # a current version that is broken must not keep its remedy away
    try:
        current = Part.open(order.current, order)
        if differences := interchangeable(candidate.contract, current.contract):
            findings.notes.append(f"compared with nothing: {'; '.join(differences)}")
            return
        _measure(candidate, current, order, findings)
    except (ComponentError, RuntimeFault) as error:
        if _is_for_memory(error):
            raise  # it says nothing of the current version
        findings.notes.append(f"compared with nothing: the current version does not run: {_sentence(error, order)}")


def _measure(candidate: Part, current: Part, order: TrialOrder, findings: _Findings) -> None:
    """The PSNR of every pair of pictures, or where the candidate makes none, of every pair of golden outputs."""
    if not findings.pictures:
        findings.note_psnr(list(_output_distances(candidate, current)), "golden outputs")
    elif current.decodes:
        findings.current_pictures = _decoded(current, candidate)
        findings.note_psnr(psnr_of_each(findings.pictures, findings.current_pictures), "pictures of golden latents")
        ours, theirs = candidate.stage, current.stage
        if isinstance(ours, VaeDecoder) and isinstance(theirs, VaeDecoder) and not findings.reasons:
            _look_again(ours, theirs, order, findings)
    else:
        chain = findings.beside | {current.contract.kind: current.stage}
        findings.current_pictures = list(_pictures(chain, order.steps))
        findings.note_psnr(psnr_of_each(findings.pictures, findings.current_pictures), _FOUR)


def _look_again(candidate: VaeDecoder, current: VaeDecoder, order: TrialOrder, findings: _Findings) -> None:
    """Where golden latents say no to a decoder, let those decide that the chain gives it to decode.

    Golden latents are noise, which a small decoder need not have learned; to draw takes far longer than to decode.
    """
    if not _is_too_far(order, findings) or missing_beside(Kind.VAE_DECODER, order):
        return
    latents = list(_latents(open_beside(Kind.VAE_DECODER, order), order.steps))
    findings.pictures = [candidate.decode_each(each).pixels[0] for each in latents]
    findings.current_pictures = [current.decode_each(each).pixels[0] for each in latents]
    _require_lively(findings.pictures, "the picture of prompt", findings)
    findings.note_psnr(psnr_of_each(findings.pictures, findings.current_pictures), _FOUR)


def _output_distances(candidate: Part, current: Part) -> Iterator[float]:
    for feeds in golden_inputs(candidate.session, candidate.folder):
        ours, theirs = candidate.session.run(feeds), current.session.run(feeds)
        # of layers that one of two text encoders lacks there is nothing to compare
        for name, array in ((name, array) for name, array in theirs.items() if name in ours):
            if not np.isfinite(array).all():
                raise RuntimeFault(f"output {name} is not finite for golden inputs")
            if ours[name].shape != array.shape:
                shapes = f"{list(array.shape)} where the candidate gives {list(ours[name].shape)}"
                raise RuntimeFault(f"output {name} is {shapes}")
            yield psnr(ours[name], array, float(np.ptp(array)))


def _is_too_far(order: TrialOrder, findings: _Findings) -> bool:
    worst, asked = findings.figures.get("psnr_min"), order.tolerance_db
    # not the other way round: a PSNR that is no number is too far
    return worst is not None and asked is not None and not worst >= asked


def _hold_to_tolerance(order: TrialOrder, findings: _Findings) -> None:
    if _is_too_far(order, findings):
        findings.reasons.append(
            f"{findings.compared}: PSNR against the current version is {findings.figures['psnr_min']:.1f} dB at worst, "
            f"at least {order.tolerance_db:g} dB is asked"
        )


def _sentence(error: BaseException, order: TrialOrder) -> str:
    if _is_for_memory(error):
        return needs_more_memory(order)
    sentence = str(error)
    # folders in the cache have digests for names, which say nothing
    for path in (order.candidate, order.current, *order.beside.values()):
        if path is not None:
            sentence = sentence.replace(f"{path.name}: ", "")
    return sentence


def _is_for_memory(error: BaseException | None) -> bool:
    """Whether an allocation failed; ONNX Runtime says so in its own error, below ours."""
    while error is not None:
        if isinstance(error, MemoryError) or "bad_alloc" in str(error) or "Failed to allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _peak_memory_mb() -> float:
    # what getrusage counts goes back to before exec, so to the process that started this one
    peak = status_bytes("VmHWM")
    if peak is not None:
        return peak / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
