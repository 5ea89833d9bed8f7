"""A1111's options: what a caller's later requests have unless they say otherwise, each caller its own."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from components.contract import Kind
from pipeline.checks import check_name, check_whole
from pipeline.errors import RequestError, refuse
from pipeline.story.infotext import EMPHASIS_LABELS, RNG_LABELS
from services.errors import FieldError, UnknownModelError
from services.ingress.a1111.schemas import OptionsBody
from services.ingress.orders.pinning import check_selector
from services.keys.keyring import Caller
from services.messages import LiveModel

AUTOMATIC = "Automatic"
# the VAE that comes with the checkpoint is the live one too
_LIVE_VAE = (AUTOMATIC, "None")
_SOURCES: Mapping[str, str] = MappingProxyType({label: rng for rng, label in RNG_LABELS.items()})
_WEIGHTINGS: Mapping[str, str] = MappingProxyType({label: name for name, label in EMPHASIS_LABELS.items()})
_HASH_DIGITS = 10
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller has set, by A1111's names.

    `sd_vae` selects a version, `randn_source` is whose noise a seed gives, `emphasis` how signs in a prompt weigh, and
    `clip_skip` the layer of the text encoder, 1 for the last.
    """

    sd_vae: str = AUTOMATIC
    randn_source: str = "CPU"
    emphasis: str = EMPHASIS_LABELS["a1111"]
    clip_skip: int = 1

    @property
    def components(self) -> dict[str, str] | None:
        """The versions other than the live ones, by kind."""
        return None if self.sd_vae == AUTOMATIC else {Kind.VAE_DECODER.value: self.sd_vae}

    @property
    def rng(self) -> str:
        """Our name of the source of noise."""
        return _SOURCES[self.randn_source]

    @property
    def weighting(self) -> str:
        """Our name of the emphasis."""
        return _WEIGHTINGS[self.emphasis]


@dataclass(frozen=True, slots=True)
class Options:
    """Every caller's settings, in memory; one event loop uses them. Callers without a key share theirs."""

    _settings: dict[str, Settings] = field(default_factory=dict)
    _turns: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def of(self, who: Caller) -> Settings:
        """What a caller has set so far."""
        return self._settings.get(who.tenant, Settings())

    async def change(
        self,
        who: Caller,
        given: OptionsBody,
        live: LiveModel,
        require: Callable[[Mapping[Kind, str]], Awaitable[object]],
    ) -> None:
        """Set what is given, for the requests that come later; those that came before keep what was set then.

        `require` sees to it that the versions chosen are to be had and fit. Changes take effect in their order.

        Raises:
            ServingError: an option is none, or has a value outside its limits; nothing is changed then.
        """
        async with self._turns[who.tenant]:
            settings = settings_with(given, self.of(who), live)
            if settings.components is not None:
                await require({Kind.VAE_DECODER: settings.sd_vae})
            self._settings[who.tenant] = settings


def settings_with(given: OptionsBody, before: Settings, live: LiveModel, within: str = "") -> Settings:
    """Settings after the options that are given; `within` stands before their names in errors.

    Raises:
        ServingError: an option has a value outside its limits.
    """
    _require_checkpoint(given, live, within)
    vae, source, emphasis, layer = given.sd_vae, given.randn_source, given.emphasis, given.CLIP_stop_at_last_layers
    try:
        return Settings(
            sd_vae=before.sd_vae if vae is None else _vae(f"{within}sd_vae", vae),
            randn_source=before.randn_source if source is None else _one_of(_SOURCES, f"{within}randn_source", source),
            emphasis=before.emphasis if emphasis is None else _one_of(_WEIGHTINGS, f"{within}emphasis", emphasis),
            clip_skip=before.clip_skip if layer is None else _layer(f"{within}CLIP_stop_at_last_layers", layer, live),
        )
    except RequestError as error:
        raise FieldError(error.message, error.field) from None


def shown_options(settings: Settings, live: LiveModel) -> OptionsBody:
    """The options as GET shows them; those that take one value only stand there for clients that send all back."""
    return OptionsBody(
        sd_model_checkpoint=title_of(live),
        sd_checkpoint_hash=live.pins[Kind.DENOISER].sha256,
        sd_vae=settings.sd_vae,
        CLIP_stop_at_last_layers=settings.clip_skip,
        emphasis=settings.emphasis,
        randn_source=settings.randn_source,
        samples_format="png",
        # noise of another program otherwise
        eta_noise_seed_delta=0,
    )


def title_of(live: LiveModel) -> str:
    """The bundle as A1111 titles a checkpoint: its name and the beginning of a hash, the denoiser's."""
    return f"{live.bundle} [{live.pins[Kind.DENOISER].sha256[:_HASH_DIGITS]}]"


def _require_checkpoint(given: OptionsBody, live: LiveModel, within: str) -> None:
    name, digest = given.sd_model_checkpoint, live.pins[Kind.DENOISER].sha256
    if name not in (None, live.bundle, title_of(live)):
        named, said = f"{within}sd_model_checkpoint", repr(name)[:_LONGEST_NAME]
        raise UnknownModelError(f"{named}={said}: must be {live.bundle!r}, the only one that is served", named)
    if given.sd_checkpoint_hash not in (None, digest):
        named = f"{within}sd_checkpoint_hash"
        raise FieldError(refuse(named, given.sd_checkpoint_hash, f"{digest!r} or left out").message, named)


def _vae(named: str, value: str) -> str:
    if value in _LIVE_VAE:
        return AUTOMATIC
    check_selector((Kind.VAE_DECODER,), value, named)
    return value


def _one_of(names: Mapping[str, str], named: str, value: str) -> str:
    check_name(named, value, names)
    return value


def _layer(named: str, value: int, live: LiveModel) -> int:
    check_whole(named, value, 1, live.contracts[Kind.TEXT_ENCODER].most_clip_skip)
    return value
