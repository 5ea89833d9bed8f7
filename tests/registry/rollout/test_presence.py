from uuid import uuid4

from components.contract import PARTS
from registry.registry import Registry
from registry.rollout.outcome import settle
from registry.rollout.plans import plan_promotion
from registry.rollout.presence import has_server, leave
from registry.rollout.standing import standing
from registry.rollout.state import ROLLOUT_TAG, Rollout, written


def test_whether_a_server_follows_is_in_the_record(emoji: Registry) -> None:
    components = tuple(emoji.version(f"emoji.{kind}", 1).ref for kind in PARTS)
    assert not has_server(emoji, "emoji")
    leave(emoji, "emoji", uuid4().hex)
    for server in (uuid4().hex, uuid4().hex):
        rollout = Rollout(components=components, state="live", server=server)
        emoji.set_bundle_tag("emoji", ROLLOUT_TAG, written(rollout))
        assert has_server(emoji, "emoji")
        leave(emoji, "emoji", uuid4().hex)
        assert has_server(emoji, "emoji"), "another's end is not its own"
        leave(emoji, "emoji", server)
        assert not has_server(emoji, "emoji")
    assert standing(emoji, "emoji").live == rollout.model_copy(update={"server": None})
    emoji.set_bundle_tag("emoji", ROLLOUT_TAG, written(rollout))
    settle(emoji, "emoji", plan_promotion(emoji, [emoji.version("emoji.denoiser", 2).ref]))
    assert not has_server(emoji, "emoji"), "who went past it said that there is none"
