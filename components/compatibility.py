"""Whether two components can work in one chain."""

from components.contract import Conditioning, Contract, Kind, LatentSpace


def compatible(a: Contract, b: Contract) -> list[str]:
    """Every mismatch of two contracts in words; an empty list means that they fit.

    Components that meet in latents must agree on the whole latent space; a text encoder and a denoiser on every
    conditioning array. Two of one kind, or two that never meet, always fit.
    """
    if a.kind == b.kind:
        return []
    mismatches = _latent_mismatches(a, b)
    if {a.kind, b.kind} == {Kind.TEXT_ENCODER, Kind.DENOISER}:
        mismatches += _conditioning_mismatches(a, b)
    return mismatches


def _latent_mismatches(a: Contract, b: Contract) -> list[str]:
    if a.latent_space is None or b.latent_space is None:
        return []
    return [
        f"latent space {field}: {a.kind} has {ours}, {b.kind} has {theirs}"
        for field in LatentSpace.model_fields
        if (ours := getattr(a.latent_space, field)) != (theirs := getattr(b.latent_space, field))
    ]


def _conditioning_mismatches(a: Contract, b: Contract) -> list[str]:
    ours, theirs = ({array.name: array for array in contract.conditioning} for contract in (a, b))
    mismatches = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            holder, other = (a, b) if name in ours else (b, a)
            mismatches.append(f"conditioning {name}: {holder.kind} has it, {other.kind} has not")
            continue
        mismatches += [
            f"conditioning {name} {field}: {a.kind} has {left}, {b.kind} has {right}"
            for field in Conditioning.model_fields
            if (left := getattr(ours[name], field)) != (right := getattr(theirs[name], field))
        ]
    return mismatches
