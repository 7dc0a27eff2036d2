"""A walk through all worlds that a budget leads to, each of them once."""

import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from .world import EVENTS, Budget, World, what_is_wrong


@dataclass
class Walk:
    """All worlds that a budget leads to, and how the invariants fare in them."""

    worlds: int = 0
    happened: set[str] = field(default_factory=set)
    """The names of the events that happened at all."""
    pairs: set[tuple[str | None, str]] = field(default_factory=set)
    """Which policy or control came after which."""
    broken: dict[str, str] = field(default_factory=dict)
    """By the name of an invariant or a fault: the shortest story that leads to it."""

    def look_at(self, world: World, story: Callable[[], str]) -> None:
        """Check all that has to hold."""
        self.worlds += 1
        for name, wrong in what_is_wrong(world):
            if name not in self.broken:
                self.broken[name] = f"{story()}: {wrong}"


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Spare the collector of garbage the worlds, which are many and have no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@nothing_collected()
def walk_through(budget: Budget, *, until: str | None = None) -> Walk:
    """Let happen whatever can happen, in every order: each world once, the nearest first.

    `until` is what has to break for the walk to end early.
    """
    start = World(budget)
    came_from: dict[World, tuple[World, str] | None] = {start: None}

    def story(world: World) -> str:
        labels: list[str] = []
        step = came_from[world]
        while step is not None:
            labels.append(step[1])
            step = came_from[step[0]]
        return ", ".join(reversed(labels)) or "at the beginning"

    result = Walk()
    queue = deque([start])
    while queue and until not in result.broken:
        world = queue.popleft()
        result.look_at(world, partial(story, world))
        for happens in EVENTS:
            for label, after, act in happens(world):
                result.happened.add(happens.__name__)
                if act is not None:
                    result.pairs.add((world.last, act))
                if after not in came_from:
                    came_from[after] = (world, label)
                    queue.append(after)
    return result
