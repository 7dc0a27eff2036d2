"""What the four travel agents share: two look-ups, and what stands in for a model.

The look-ups are what the tools do in their durable steps; that of hotels is slow. The stand-in's
answer follows from the messages that it is sent, and from nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("travel")

CITIES = re.compile(r"\b(Rome|Lisbon|Oslo)\b")
PAUSE = 0.12  # seconds between two words
_numbers = itertools.count(1)


async def trains(city: str) -> str:
    """Look up trains: quick."""
    return await _look_up(f"trains to {city}", 0.3, f"a night train to {city}")


async def hotels(city: str) -> str:
    """Look up hotels: slow."""
    return await _look_up(f"hotels in {city}", 3.0, f"a room in {city}")


async def _look_up(what: str, seconds: float, found: str) -> str:
    log.info("looks up %s", what)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        log.info("cut off: %s", what)
        raise
    log.info("found %s", found)
    return found


@dataclass
class Reply:
    """What the stand-in answers: words, or calls of tools as (id, name, arguments)."""

    text: str = ""
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    async def words(self) -> AsyncIterator[str]:
        """The words, one after the other, as a model says them."""
        number, said = next(_numbers), 0
        words = re.findall(r"\S+\s*", self.text)
        what = f"{len(self.calls)} calls of tools" if self.calls else f"{len(words)} words"
        log.info("request %d is answered with %s", number, what)
        try:
            for word in words:
                await asyncio.sleep(PAUSE)
                said += 1
                log.debug("%d words", said)
                yield word
        except (asyncio.CancelledError, GeneratorExit):
            log.info("cut off: request %d, after %d of %d words", number, said, len(words))
            raise


def reply(messages: Sequence[dict[str, Any]]) -> Reply:
    """What the stand-in answers to neutral messages: always the same to the same."""
    asked, city, at = "", "", 0
    for place, message in enumerate(messages):
        if message["role"] == "user":
            asked = str(message["content"])
            if named := CITIES.search(asked):
                city, at = named[1], place
    found = [str(x["content"]) for x in messages[at:] if x["role"] == "tool"]
    if "home" in asked:
        kept = [x for x in found if not x.startswith("[")]
        return Reply(f"As you like. What I had found for {city} by then: {', '.join(kept)}.")
    if not found:
        ids = f"trains-{len(messages)}", f"hotels-{len(messages)}"
        names = "find_trains", "find_hotels"
        return Reply(calls=[(x, name, {"city": city}) for x, name in zip(ids, names, strict=True)])
    wish = "" if CITIES.search(asked) else f" You also said: {asked}"
    return Reply(
        f"For a weekend in {city} I have found {' and '.join(found)}, and both are free on the "
        f"days that suit you.{wish} Shall I book?"
    )
