"""The rollout controller: it decides which versions new requests are pinned to, and has every replica ready before."""
