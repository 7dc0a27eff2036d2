"""All measurements, in the order in which they are made."""

from typing import Final

from tests.benchmarks.bench import Measure

from . import bursts, cleanups, cost, growth, latency, load, long, policies, streams, stripped

MEASURES: Final[dict[str, Measure]] = {
    "interruption": latency.interruption,
    "flat": latency.flat,
    "turn": latency.turn,
    "history": latency.history,
    "cleanup": cleanups.cleanup,
    "burst": bursts.burst,
    "bursts": bursts.bursts,
    "throughput": load.throughput,
    "policies": policies.policies,
    "long": long.long,
    "stripped": stripped.stripped,
    "sessions": growth.sessions,
    "stream": streams.stream,
    "import": cost.imports,
    "silent": cleanups.silent,
    "memory": load.memory,
    "bytes": cost.written,
    "journal": cost.journal,
    "retention": cost.retention,
}

AT_ONCE: Final = ("silent", "memory", "bytes", "journal", "retention")
"""Those that count, or wait for half a minute: they may share the machine."""
