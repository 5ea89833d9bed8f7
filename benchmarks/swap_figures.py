"""What a load during promotions shows: failures, mixtures, how soon a version is there, and who waited longer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.open_loop import Drawn
from benchmarks.percentiles import percentile
from benchmarks.promoter import Promotion

# after a promotion has returned, what it set in motion is over by then
_AFTER_S = 2.0
_AWAY = re.compile(r"the registry at \S+ (cannot be reached|did not answer)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapFigures:
    """One scene: `versions` counts the answers of each; `wrong` are pictures that neither version makes.

    Of the `asked` promotions some were followed, and some `refused`, the last for the reason given; `unseen` are those
    followed whose version no request had before the next one. `opened_s` is what the first one of all took, for which
    every replica had to fetch and open its version; those after it find it held.

    `slowest_s` is the longest time from the return of a promotion to the first request of its version, negative where
    that came before; `old` are answers of the version before that were sent later than two seconds after the return.
    The percentiles are of milliseconds, in the windows of promotions and outside of them.
    """

    scene: str
    requests: int
    failed: int
    errors: tuple[str, ...]
    wrong: int
    old: int
    versions: Mapping[int, int]
    asked: int
    promotions: int
    refused: int
    unseen: int
    opened_s: float
    refusal: str | None
    slowest_s: float | None
    promote_s: float | None
    p99_within_ms: float | None
    p99_outside_ms: float | None
    p50_within_ms: float | None
    p50_outside_ms: float | None
    requests_within: int

    @property
    def away(self) -> bool:
        """Whether promotions were refused because MLflow did not answer."""
        return self.scene == "mlflow" and self.refusal is not None and _AWAY.search(self.refusal) is not None

    @property
    def p99_ratio(self) -> float | None:
        """The p99 in the windows of promotions to that outside; None where either has no requests."""
        if self.p99_within_ms is None or self.p99_outside_ms is None:
            return None
        return self.p99_within_ms / self.p99_outside_ms


def sum_up(
    scene: str,
    answers: Sequence[Drawn],
    promotions: Sequence[Promotion],
    expected: Mapping[tuple[int, int], str],
    *,
    asked: int,
    opened_s: float,
) -> SwapFigures:
    """Draw the figures; `expected` is the digest of each request's picture by each version."""
    made = [one for one in answers if one.error is None]
    followed = [one for one in promotions if one.error is None]
    refused = [one for one in promotions if one.error is not None]
    within = [one.ms for one in made if _within(one, promotions)]
    outside = [one.ms for one in made if not _within(one, promotions)]
    versions = {version: sum(one.version == version for one in made) for version in sorted({o.version for o in made})}
    delays = [_delay(made, promotion, followed) for promotion in followed]
    seen = [delay for delay in delays if delay is not None]
    return SwapFigures(
        scene=scene,
        requests=len(answers),
        failed=len(answers) - len(made),
        errors=tuple(sorted({one.error for one in answers if one.error is not None}))[:5],
        wrong=sum(expected.get((one.request, one.version)) != one.digest for one in made),
        old=sum(_is_old(one, followed) for one in made),
        versions=versions,
        asked=asked,
        promotions=len(followed),
        refused=len(refused),
        unseen=len(delays) - len(seen),
        opened_s=opened_s,
        refusal=refused[-1].error if refused else None,
        slowest_s=max(seen, default=None),
        promote_s=max((one.returned_s - one.began_s for one in followed), default=None),
        p99_within_ms=percentile(within, 99) if within else None,
        p99_outside_ms=percentile(outside, 99) if outside else None,
        p50_within_ms=percentile(within, 50) if within else None,
        p50_outside_ms=percentile(outside, 50) if outside else None,
        requests_within=len(within),
    )


def _within(one: Drawn, promotions: Sequence[Promotion]) -> bool:
    """Whether a request was under way in the window of a promotion: from its beginning to a little after its return."""
    return any(
        one.sent_s <= promotion.returned_s + _AFTER_S and one.answered_s >= promotion.began_s
        for promotion in promotions
    )


def _delay(made: Sequence[Drawn], promotion: Promotion, followed: Sequence[Promotion]) -> float | None:
    """From a promotion's return to the sending of the first request of its version; None where none came."""
    until = min((other.began_s for other in followed if other.began_s > promotion.began_s), default=float("inf"))
    sent = [one.sent_s for one in made if one.version == promotion.version and promotion.began_s <= one.sent_s < until]
    return min(sent) - promotion.returned_s if sent else None


def _is_old(one: Drawn, followed: Sequence[Promotion]) -> bool:
    """Whether a request has another version than the promotion before it, which returned over two seconds ago."""
    before = [promotion for promotion in followed if promotion.returned_s + _AFTER_S < one.sent_s]
    begun = [promotion for promotion in followed if promotion.began_s < one.sent_s]
    # while the next one is under way either version may come
    if not before or begun[-1] != before[-1]:
        return False
    return one.version != before[-1].version
