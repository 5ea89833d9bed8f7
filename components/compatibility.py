"""Whether two components can work in one chain, and whether one can take the other's place in it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from components.contract import (
    CONTROL_PREFIXES,
    IMAGE_PROMPT,
    PHRASE,
    Conditioning,
    Contract,
    Kind,
    LatentSpace,
    TensorSpec,
    shape_text,
)
from components.lora import lora_differences

# What one kind gives and another takes, by the names that the pipeline knows the arrays by. Axis 1 is the latent
# space's channels, which are compared there.
_LATENTS_HANDED_ON = (
    (Kind.DENOISER, "prediction", Kind.VAE_DECODER, "latents"),
    (Kind.DENOISER, "prediction", Kind.PREVIEW_DECODER, "latents"),
    (Kind.VAE_ENCODER, "mean", Kind.DENOISER, "latents"),
    (Kind.VAE_ENCODER, "mean", Kind.VAE_DECODER, "latents"),
)

# a picture's tokens, of which the denoiser takes those of several pictures one after the other
_IMAGE_PROMPT = (Kind.IMAGE_ENCODER, IMAGE_PROMPT, Kind.DENOISER, IMAGE_PROMPT)


class _Difference(NamedTuple):
    """One thing on which two contracts differ; None on the side that lacks it."""

    what: str
    ours: object
    theirs: object


def mismatches_among(contracts: Iterable[Contract]) -> list[str]:
    """Every mismatch of every two of several contracts in words; an empty list means that all fit in one chain."""
    return [mismatch for a, b in combinations(contracts, 2) for mismatch in compatible(a, b)]


def compatible(a: Contract, b: Contract) -> list[str]:
    """Every mismatch of two contracts in words; an empty list means that they fit.

    Components that meet in latents must agree on the whole latent space; those that have a text's conditioning on
    every array of it, but for a third text encoder's, which a denoiser must have inputs for; a ControlNet or adapter
    and a denoiser on how many arrays one adds to the other, and a ControlNet and a denoiser on what they are told of
    the picture; a LoRA must be for layers that a denoiser lets requests adapt; a denoiser that takes boxes needs a text
    encoder that reads their phrases; and what one hands to the other must be of the dtype and the fixed dimensions that
    it takes. Two of one kind, or two that never meet, always fit.
    """
    if a.kind == b.kind:
        return []
    differences = [*_space_differences(a, b)]
    if a.conditioning and b.conditioning and Kind.THIRD_TEXT_ENCODER not in (a.kind, b.kind):
        differences += _text_differences(a, b)
    if {a.kind, b.kind} == {Kind.CONTROLNET, Kind.DENOISER} and a.time_ids != b.time_ids:
        differences.append(_Difference("time_ids", _listed(a.time_ids), _listed(b.time_ids)))
    found = [_between(a.kind, b.kind, difference) for difference in differences]
    for giver, taker in ((a, b), (b, a)):
        found += [*_handed_on(giver, taker), *_phrases(giver, taker)]
        found += [*_added_within(giver, taker), *_nowhere_taken(giver, taker)]
        if (giver.kind, taker.kind) == (Kind.LORA, Kind.DENOISER):
            found += lora_differences(giver, taker)
    return found


def interchangeable(a: Contract, b: Contract) -> list[str]:
    """Every difference that keeps `a` from taking the place of `b`, in words; an empty list means that it can.

    Two of one kind are interchangeable if what stands beside them cannot tell one from the other: the same latent
    space, the same conditioning, and inputs and outputs of the same names, dtypes and fixed dimensions, but for further
    inputs that may be left out. How a denoiser is walked, its prediction type among that, is its own affair and travels
    in its contract; so is which earlier layers a text encoder has outputs of, as each request is held to the contract
    that it is pinned to.
    """
    if a.kind != b.kind:
        return [f"kind: {a.kind} in place of {b.kind}"]
    differences = [*_space_differences(a, b), *_text_differences(a, b)]
    known = {spec.name for spec in b.inputs}
    # what may be left out and nobody beside it knows of
    inputs = [spec for spec in a.inputs if spec.name in known or not spec.optional]
    differences += _spec_differences("input", inputs, b.inputs)
    differences += _spec_differences("output", _taken_by_all(a), _taken_by_all(b))
    return [_in_place(difference) for difference in differences]


def _listed(names: Sequence[str]) -> str | None:
    return ", ".join(names) or None


def _taken_by_all(contract: Contract) -> list[TensorSpec]:
    """The outputs but those for requests that skip layers."""
    conditioning = {array.name for array in contract.conditioning}
    skipped = {name for names in contract.skipped_layers for name in names} - conditioning
    return [spec for spec in contract.outputs if spec.name not in skipped]


def _between(a: Kind, b: Kind, difference: _Difference) -> str:
    what, ours, theirs = difference
    if ours is None or theirs is None:
        holder, other = (b, a) if ours is None else (a, b)
        return f"{what}: {holder} has it, {other} has not"
    return f"{what}: {a} has {ours}, {b} has {theirs}"


def _in_place(difference: _Difference) -> str:
    what, ours, theirs = difference
    if ours is None or theirs is None:
        return f"{what}: {'missing' if ours is None else 'new'}"
    return f"{what}: {ours} in place of {theirs}"


def _space_differences(a: Contract, b: Contract) -> Iterator[_Difference]:
    if a.latent_space is None or b.latent_space is None:
        return
    for field in LatentSpace.model_fields:
        ours, theirs = getattr(a.latent_space, field), getattr(b.latent_space, field)
        if ours != theirs:
            yield _Difference(f"latent space {field}", ours, theirs)


def _text_differences(a: Contract, b: Contract) -> Iterator[_Difference]:
    ours, theirs = ({array.name: array for array in contract.conditioning} for contract in (a, b))
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            yield _Difference(f"conditioning {name}", ours.get(name), theirs.get(name))
            continue
        for field in Conditioning.model_fields:
            left, right = getattr(ours[name], field), getattr(theirs[name], field)
            if left != right:
                yield _Difference(f"conditioning {name} {field}", left, right)


def _spec_differences(role: str, ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> Iterator[_Difference]:
    left, right = ({spec.name: spec for spec in specs} for specs in (ours, theirs))
    for name in sorted(left.keys() | right.keys()):
        if name not in left or name not in right:
            yield _Difference(f"{role} {name}", left.get(name), right.get(name))
            continue
        if left[name].dtype != right[name].dtype:
            yield _Difference(f"{role} {name} dtype", left[name].dtype, right[name].dtype)
        if _fixed(left[name]) != _fixed(right[name]):
            yield _Difference(f"{role} {name} shape", shape_text(left[name].shape), shape_text(right[name].shape))


def _fixed(spec: TensorSpec) -> list[int | None]:
    """The dimensions that callers do not choose; how those that they choose are called says nothing."""
    return [dim if isinstance(dim, int) else None for dim in spec.shape]


def _handed_on(giver: Contract, taker: Contract) -> Iterator[str]:
    pairs = [
        (given, taken, 1)
        for gives, given, takes, taken in (*_LATENTS_HANDED_ON, _IMAGE_PROMPT)
        if giver.kind == gives and taker.kind == takes
    ]
    if giver.kind == Kind.TEXT_ENCODER and taker.kind == Kind.DENOISER:
        # the last axis is the width, which is compared as conditioning
        pairs += [(array.name, array.name, 2) for array in giver.conditioning]
    if (giver.kind in CONTROL_PREFIXES or giver.kind == Kind.THIRD_TEXT_ENCODER) and taker.kind == Kind.DENOISER:
        pairs += [(spec.name, spec.name, 0) for spec in giver.outputs]
    outputs, inputs = ({spec.name: spec for spec in specs} for specs in (giver.outputs, taker.inputs))
    for given, taken, compared_elsewhere in pairs:
        if given in outputs and taken in inputs:
            what = given if given == taken else f"{given} as {taken}"
            yield from (
                f"{what} {which}: {giver.kind} gives {ours}, {taker.kind} takes {theirs}"
                for which, ours, theirs in _array_differences(outputs[given], inputs[taken], compared_elsewhere)
            )


def _phrases(giver: Contract, taker: Contract) -> Iterator[str]:
    """How a text encoder's vector of a phrase is not what a denoiser takes for each of its boxes."""
    if giver.kind != Kind.TEXT_ENCODER or taker.kind != Kind.DENOISER or not taker.most_boxes:
        return
    given = next((spec for spec in giver.outputs if spec.name == PHRASE), None)
    if given is None:
        yield f"{PHRASE}: {taker.kind} takes it for boxes, {giver.kind} gives none"
        return
    texts = next(spec for spec in taker.inputs if spec.name == "box_texts")
    of_one = texts.model_copy(update={"shape": (texts.shape[0], texts.shape[2])})
    yield from (
        f"{PHRASE} {which}: {giver.kind} gives {ours}, {taker.kind} takes {theirs}"
        for which, ours, theirs in _array_differences(given, of_one, 0)
    )


def _added_within(giver: Contract, taker: Contract) -> Iterator[str]:
    """What a ControlNet or adapter adds within a denoiser and that takes not, or the other way round."""
    if taker.kind != Kind.DENOISER or giver.kind not in CONTROL_PREFIXES:
        return
    given = {spec.name for spec in giver.outputs}
    taken = {spec.name for spec in taker.inputs if spec.name.startswith(CONTROL_PREFIXES[giver.kind])}
    for name in sorted(given ^ taken):
        yield _between(giver.kind, taker.kind, _Difference(name, name in given or None, name in taken or None))


def _nowhere_taken(giver: Contract, taker: Contract) -> Iterator[str]:
    """What a third text encoder makes and a denoiser has no input for."""
    if giver.kind == Kind.THIRD_TEXT_ENCODER and taker.kind == Kind.DENOISER:
        taken = {spec.name for spec in taker.inputs}
        for name in (spec.name for spec in giver.outputs if spec.name not in taken):
            yield _between(giver.kind, taker.kind, _Difference(name, name, None))


def _array_differences(given: TensorSpec, taken: TensorSpec, but: int) -> Iterator[_Difference]:
    if given.dtype != taken.dtype:
        yield _Difference("dtype", given.dtype, taken.dtype)
    if len(given.shape) != len(taken.shape):
        yield _Difference("shape", shape_text(given.shape), shape_text(taken.shape))
        return
    for axis, (ours, theirs) in enumerate(zip(given.shape, taken.shape, strict=True)):
        if axis != but and isinstance(ours, int) and isinstance(theirs, int) and ours != theirs:
            yield _Difference(f"dimension {axis}", ours, theirs)
