"""Where the time of an interruption goes: `python -m tests.benchmarks.trace [MESSAGES] [turn]`.

Prints, side by side in time, what each invocation wrote to its journal, in milliseconds since the
interrupting message was sent (or with `turn`, a message that interrupts nothing).
"""

import asyncio
import logging
import sys
import time
from datetime import datetime
from typing import Any

from .figures import SIDES
from .measures.latency import interrupt
from .stage import Side, Stage, stage

COLUMNS = "id, index, entry_type, name, raw_length, appended_at"


async def trace(stage: Stage, side: Side, messages: int, *, plain: bool) -> list[str]:
    """One interruption, after some for warm-up."""
    for _ in range(3):
        await interrupt(stage, side, await side.old(messages))
    key = await side.old(messages)
    if not plain:
        await side.begun(await side.send(key, "hold"))
        await asyncio.sleep(0.2)
    epoch = time.time() - time.monotonic()
    sent = await side.send(key, "answer")
    step = await side.begun(sent)
    await stage.settled()
    began = sent.at + epoch
    names = {
        row["id"]: f"{row['target_handler_name']} {row['id'][-4:]}"
        for row in await stage.restate.invocations(f"modified_at > to_timestamp({began - 1})")
        if row["target_service_name"].startswith(side.name.title())
    }
    rows = await stage.journal(list(names), COLUMNS)
    lines = [(sent.acknowledged * 1e3, "-- acknowledged"), (step * 1e3, "-- first step")]
    lines.append((side.last_end(sent) * 1e3, "-- all recorded"))
    for row in rows:
        at = (_seconds(row["appended_at"]) - began) * 1e3
        if at > -5:
            what = f"{row['entry_type']} {row.get('name') or ''}".strip()
            who = names[row["id"]]
            lines.append((at, f"{who:<22} {row['index']:>3}  {what} ({row['raw_length']})"))
    return [f"{side.name:<10} {at:7.1f}  {what}" for at, what in sorted(lines)]


def _seconds(stamp: Any) -> float:
    return datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp()


async def main() -> None:
    """Trace all sides."""
    sizes = [int(each) for each in sys.argv[1:] if each.isdigit()] or [10]
    async with stage() as running:
        for name in SIDES:
            side = running.sides[name]
            lines = await trace(running, side, sizes[0], plain="turn" in sys.argv)
            sys.stdout.write("\n".join([*lines, "", ""]))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main())
