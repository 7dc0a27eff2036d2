"""Build the wheel, install it alone, and talk to an agent that it serves.

`python tests/wheel_check.py` makes an empty environment with the wheel and what the wheel asks
for: `restate-sdk` and `typing-extensions`. The web server comes from a folder beside it. It also
prints how long `import interruptible` takes over `import restate`, side by side.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from interruptible import Session
from interruptible.testing import restate_server

ROOT = Path(__file__).parent.parent
AGENT = """
import asyncio, sys
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from interruptible import Agent, Task, cleanup

class EchoAgent(Agent):
    async def run(self, ctx: restate.Context, task: Task) -> str:
        async with cleanup(ctx):
            return str(task.input[0]["content"]).upper()

config = Config()
config.bind = ["127.0.0.1:0"]
config.accesslog = None

def tell(sockets):
    print(sockets.insecure_sockets[0].getsockname()[1], flush=True)
    return sockets

create, config.create_sockets = config.create_sockets, lambda: tell(create())
asyncio.run(serve(restate.app(services=EchoAgent().services), config, mode="asgi"))
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def pip(python: Path | str, *arguments: str | Path) -> str:
    return run(python, "-m", "pip", "--disable-pip-version-check", "-q", *arguments)


def import_times(python: Path, runs: int = 15) -> tuple[float, float]:
    """Median seconds of a whole process that imports `restate`, and one that imports us."""
    took: dict[str, list[float]] = {"restate": [], "interruptible": []}
    for _ in range(runs):
        for module, times in took.items():
            started = time.perf_counter()
            run(python, "-I", "-c", f"import {module}")
            times.append(time.perf_counter() - started)
    return statistics.median(took["restate"]), statistics.median(took["interruptible"])


async def talk(python: Path, web: Path, folder: Path) -> None:
    program = folder / "agent.py"
    program.write_text(AGENT)
    worker = await asyncio.create_subprocess_exec(
        python, program, env={"PYTHONPATH": str(web)}, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert worker.stdout is not None
        port = int(await asyncio.wait_for(worker.stdout.readline(), 30))
        async with restate_server() as restate:
            await restate.register(f"http://127.0.0.1:{port}")
            outcome = await Session(restate.client, "EchoAgent", "one").ask("hello")
        assert outcome["messages"] == [{"role": "assistant", "content": "HELLO"}], outcome
    finally:
        worker.kill()
        await worker.wait()


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pip(sys.executable, "wheel", "--no-deps", "-w", folder, ROOT)
        (wheel,) = folder.glob("*.whl")
        print(f"built {wheel.name}")
        venv.create(folder / "env", with_pip=True)
        python, web = folder / "env" / "bin" / "python", folder / "web"
        pip(python, "install", wheel)
        listed = run(python, "-m", "pip", "list", "--format", "freeze").split()
        installed = {line.partition("==")[0].lower().replace("_", "-") for line in listed}
        wanted = {"restate-interruptible", "restate-sdk", "typing-extensions"}
        assert installed - {"pip", "setuptools", "wheel"} == wanted, installed
        print(f"installed it into an empty environment with {', '.join(sorted(wanted))}")
        pip(python, "install", "--target", web, "hypercorn")
        asyncio.run(talk(python, web, folder))
        print("an agent served from there answers")
        restate, ours = import_times(python)
        print(f"import interruptible / import restate: {ours / restate:.2f} (medians of 15)")


if __name__ == "__main__":
    main()
