"""What importing the library brings along, and which module may know which."""

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import restate

import interruptible
from interruptible import _agent, client, formats, gateway, stream, testing
from interruptible._cancel import cleanup, shielding
from interruptible._task import task
from interruptible.formats import gemini, responses

PACKAGE = Path(interruptible.__file__).parent


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = sorted(name_of(path) for path in PACKAGE.rglob("*.py"))

FRAMEWORKS = [x for x in MODULES if x.startswith("ext.") and not x.startswith("ext._")]
TESTING = [f"_testing.{name}" for name in ("install", "retries", "serve", "server")]
GATEWAY = {"gateway"}
LEAVES = {
    **{name: {"testing"} for name in TESTING},
    "testing": set[str](),
    "_ingress": {"stream", "gateway", "acp", "_gateway.agui_answering", "_acp.reaching"},
    **dict.fromkeys(("_gateway.bounds", "_gateway.refusals", "_gateway.agui_answering"), GATEWAY),
    "_gateway.agui_asked": GATEWAY | {"_gateway.agui_answering"},
    "stream": set[str](),
    "gateway": set[str](),
    "acp": set[str](),
    "_acp.agent": {"acp"},
    "client": {"__init__", "gateway"}
    | {f"_gateway.{x}" for x in ("agui_answering", "agui_record", "hearing")}
    | {f"_acp.{x}" for x in ("agent", "session", "permissions")},
    "formats.gemini": {"formats.adk"},
    "formats.responses": {"ext.openai_agents"},
    "formats.langchain": {"ext._langchain", "ext.langchain"},
    "formats.pydantic_ai": {"ext.pydantic_ai", "ext._pydantic_ai", "ext._pydantic_ai_model"},
    **{name: set[str]() for name in FRAMEWORKS},
}
"""What imports the modules that the core never imports."""

OF_RESTATE = {"", ".client", ".handler", ".serde", ".server_types"}
"""The modules of the SDK that users know, too; `_cancel.sdk` alone knows its inside."""
PURE = (
    "_session.record",
    "_session.rules",
    "_session.pending",
    "_session.approvals",
    "_session.turns",
    "_cancel.state",
    "_cancel.steered",
    "_wire.cause",
    "_wire.fields",
    "_wire.rule",
    "_wire.said",
    "_wire.types",
    "_task.repair",
    "_stream.deltas",
    "_stream.events",
    "_stream.keeping",
    "_stream.log",
    "_gateway.agui_asked",
    "_gateway.agui_events",
    "_gateway.agui_messages",
    "_gateway.agui_run",
    "_acp.content",
    "_acp.calls_told",
    "_acp.telling",
    "formats",
)
"""What knows nothing of Restate."""


def path_of(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text())


def imports(module: str) -> Iterator[str]:
    """The names of all modules that a module imports, wherever in it."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            yield node.module
            if node.module.startswith("interruptible"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def own_imports(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    names = {x for x in imports(module) if x.startswith("interruptible.")}  # PyPI has an `acp`, too
    return {x.removeprefix("interruptible.") for x in names} & set(MODULES)


def test_dependencies_point_one_way() -> None:
    TopologicalSorter({module: own_imports(module) for module in MODULES}).prepare()


def test_a_name_stands_for_one_thing_in_the_core() -> None:
    """So that it can be searched for; the parts of a class are found with its name."""
    where: dict[str, set[str]] = {}
    for module in MODULES:
        if module.startswith(("_", "formats._")):
            for name in defined(parsed(module)):
                where.setdefault(name, set()).add(module)
    usual = re.compile("__all__|_log|_?[A-Z]")  # a module's logger, and type variables
    twice = {name: modules for name, modules in where.items() if len(modules) > 1}
    assert {name: twice[name] for name in twice if not usual.fullmatch(name)} == {}


def defined(module: ast.Module) -> Iterator[str]:
    """The names of a module's own functions, classes, types and constants."""
    for node in module.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


@pytest.mark.parametrize("module", [x for x in MODULES if x not in ("client", "testing")])
def test_a_file_is_short_enough_to_be_read_at_once(module: str) -> None:
    assert len(path_of(module).read_text().splitlines()) <= 300


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_core_imports_no_leaf(leaf: str) -> None:
    assert {module for module in MODULES if leaf in own_imports(module)} == LEAVES[leaf]


def test_the_room_of_the_stream_is_known_by_the_stream_and_by_those_who_follow_alone() -> None:
    outside = [x for x in MODULES if not x.startswith("_stream.")]
    known = {x: {y for y in own_imports(x) if y.startswith("_stream.")} for x in outside}
    assert {x: y for x, y in known.items() if y and x != "stream"} == {
        "client": {"_stream.events", "_stream.following"},
        "_ingress": {"_stream.publisher"},
        "_gateway.refusals": {"_stream.publisher"},
        "_gateway.hearing": {"_stream.events"},
        **{f"_acp.{x}": {"_stream.events"} for x in ("calls_told", "session", "telling")},
    }
    at_once = {
        name
        for node in parsed("client").body
        if isinstance(node, ast.ImportFrom) and (name := node.module or "")
    }
    assert not any("_stream" in name for name in at_once)  # or the core would bring it along


def test_the_room_of_acp_is_known_by_acp_alone() -> None:
    known = {x for x in MODULES if any(y.startswith("_acp.") for y in own_imports(x))}
    assert {x for x in known if not x.startswith("_acp.")} == {"acp"}
    for module in ("_acp.content", "_acp.calls_told", "_acp.telling"):  # the rules
        rooms = {x.split(".")[0] for x in own_imports(module)}
        assert rooms <= {"_acp", "_stream", "_wire", "formats"}


@pytest.mark.parametrize(("room", "known"), [("_wire", ()), ("formats", ("_wire",))])
def test_a_low_room_knows_those_below_it_alone(room: str, known: tuple[str, ...]) -> None:
    for module in MODULES:
        if module.startswith(f"{room}."):
            assert {x.split(".")[0] for x in own_imports(module)} <= {room, *known}


def test_cancellation_knows_nothing_of_agents() -> None:
    for module in MODULES:
        if module.startswith("_cancel."):
            assert {x.split(".")[0] for x in own_imports(module)} <= {"_cancel", "_wire"}


def test_the_rules_of_the_stream_know_nothing_of_what_carries_them_out() -> None:
    for module in ("log", "keeping", "deltas"):
        known = own_imports(f"_stream.{module}")
        assert known <= {"_stream.deltas", "_stream.log", "formats._calls"}


@pytest.mark.parametrize(
    "module", ["_session.record", "_wire.cause", "_wire.rule", "_wire.text", *TESTING]
)
def test_what_knows_nobody_imports_nothing_of_the_package(module: str) -> None:
    assert own_imports(module) == set()


@pytest.mark.parametrize(
    ("module", "known"),
    [
        ("_session.rules", {"_session.record"}),
        ("_session.pending", {"_session.record", "_session.rules"}),
        ("_session.approvals", {"_session.record"}),
        ("_wire.types", {"_wire.rule"}),
        ("_wire.said", {"_wire.types"}),
    ],
)
def test_the_rules_and_the_types_know_each_other_alone(module: str, known: set[str]) -> None:
    assert own_imports(module) == known


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_the_module_of_a_framework_uses_public_names_alone(module: str) -> None:
    known = {x for x in own_imports(module) if not x.startswith("formats.")}
    own = module.replace("ext.", "ext._")
    assert known <= {"__init__", "formats", "ext._adapter", "ext._extra", own, f"{own}_model"}


@pytest.mark.long
@pytest.mark.parametrize("module", FRAMEWORKS)
def test_without_its_extra_the_module_of_a_framework_names_it(module: str) -> None:
    name = module.removeprefix("ext.")
    hidden = ["pydantic_ai", "agents", "langchain", "google.adk"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))",
        "try:",
        f"    import interruptible.ext.{name}",
        "except ImportError as error:",
        "    print(error)",
    )
    said = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    extra = name.replace("_", "-")
    assert f"Run: pip install 'restate-interruptible[{extra}]'" in said.stdout


def test_the_core_knows_no_framework() -> None:
    for module in MODULES:
        if not module.startswith("ext."):
            assert not {x for x in own_imports(module) if x.startswith("ext")}


def test_testing_serves_any_app_and_knows_nothing_of_agents() -> None:
    assert own_imports("testing") == set(TESTING)


@pytest.mark.parametrize("module", [x for x in MODULES if x != "_cancel.sdk"])
def test_of_the_sdk_a_module_imports_public_names_alone(module: str) -> None:
    found = {x.removeprefix("restate") for x in imports(module) if x.split(".")[0] == "restate"}
    if module.startswith("ext."):
        found = {x for x in found if not x.startswith(".ext")}  # Restate's own integration
    assert found <= (set[str]() if module.startswith(PURE) else OF_RESTATE)


def loaded(*statements: str) -> set[str]:
    """The modules that are there after these statements, in a new process."""
    code = "; ".join((*statements, "import json, sys", "print(json.dumps(list(sys.modules)))"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


def test_importing_the_library_brings_nothing_along_but_the_sdk_and_the_standard_library() -> None:
    before = loaded("import restate, typing_extensions")
    added = loaded("import restate, typing_extensions", "import interruptible") - before
    packages = {name.split(".")[0] for name in added} - set(sys.stdlib_module_names)
    assert packages <= {"interruptible", "restate"}
    assert not {"interruptible.testing", "restate.client", "restate.ext"} & added
    assert not {x for x in added if x.startswith(("interruptible.stream", "interruptible._stream"))}


@pytest.mark.long
@pytest.mark.parametrize(
    ("leaf", "lacks"),
    [
        *[("stream", "httpx"), ("acp", "acp"), ("acp", "httpx")],
        *[("gateway", x) for x in ("ag_ui", "sse_starlette", "httpx")],
    ],
)
def test_without_its_extra_a_leaf_names_it(leaf: str, lacks: str) -> None:
    code = (
        f"import sys; sys.modules.update({lacks}=None)",
        "import interruptible",
        "try:",
        f"    import interruptible.{leaf}",
        "except ImportError as error:",
        "    print(error)",
    )
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(code)],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Run: pip install 'restate-interruptible[{leaf}]'" in said.stdout


def test_importing_testing_needs_no_extra() -> None:
    hidden = "import sys; sys.modules.update(dict.fromkeys(('httpx', 'hypercorn', 'pytest')))"
    assert "interruptible.testing" in loaded(hidden, "import interruptible.testing")


# -- Docstrings. -----------------------------------------------------------------------------------


def documented(owner: Any, path: str) -> Iterator[tuple[str, str | None]]:
    """The public members of a class with their own docstrings, inherited ones left out."""
    for name, member in vars(owner).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            yield f"{path}.{name}", inspect.getdoc(member)


PUBLIC: list[tuple[ModuleType, list[str]]] = [
    (interruptible, interruptible.__all__),
    (client, client.__all__),
    (formats, formats.__all__),
    (gemini, ["from_messages", "to_messages"]),
    (responses, ["from_messages", "to_messages"]),
    (stream, stream.__all__),
    (gateway, gateway.__all__),
    (testing, testing.__all__),
    (cleanup, ["Cleanup"]),
]
OBJECTS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, offered in PUBLIC
    for name in offered
    if name
    not in (
        "Event",
        "Message",
        "Output",
        "Policy",
        "TurnStatus",
    )  # aliases, which cannot have one at run time
}


@pytest.mark.parametrize("path", OBJECTS)
def test_every_public_object_and_its_public_methods_have_a_docstring(path: str) -> None:
    offered = OBJECTS[path]
    docs = {path: inspect.getdoc(offered)}
    if inspect.isclass(offered):
        assert "__doc__" in vars(offered)
        docs.update(documented(offered, path))
    assert all(docs.values()), docs
    first_lines = [str(doc).splitlines()[0] for doc in docs.values()]
    assert all(line.endswith((".", ":")) for line in first_lines), first_lines


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(parsed(module))


@pytest.mark.parametrize(
    "function",
    [
        _agent.Agent,
        _agent.agent,
        _agent.handler,
        shielding.shield,
        cleanup.cleanup,
        task.Task.append,
        task.Task.approval,
        task.Task.delegate,
        task.Task.publish,
        task.Task.steerable,
        formats.native,
        formats.with_native,
        gemini.from_messages,
        gemini.to_messages,
        responses.from_messages,
        responses.to_messages,
        client.Session,
        client.Session.send,
        client.Session.cancel,
        client.Session.withdraw,
        client.Session.replace,
        client.Session.promote,
        client.Session.resume,
        client.Session.edit,
        client.Session.answer,
        client.Session.attach,
        client.Session.regenerate,
        client.Session.rewind,
        client.Session.fork,
        client.Session.turns,
        client.Session.follow,
        stream.Stream,
    ],
    ids=lambda x: x.__qualname__,
)
def test_the_docstring_has_every_parameter(function: Any) -> None:
    parameters = set(inspect.signature(function).parameters) - {"self"}
    if function is _agent.Agent:
        parameters = parameters - {"options"} | _agent.Options.__annotations__.keys()
    doc = inspect.getdoc(function) or ""
    assert {name for name in parameters if f"    {name}: " not in doc} == set()


def test_an_interruption_is_a_terminal_error_of_the_sdk() -> None:
    error = interruptible.Interrupted()
    assert isinstance(error, restate.TerminalError)
    assert (error.message, error.status_code) == ("cancelled", 409)


def test_the_rules_and_the_types_can_be_loaded_without_the_sdk() -> None:
    bare = "import sys, types; bare = types.ModuleType('interruptible')"
    hidden = f"bare.__path__ = [{str(PACKAGE)!r}]; sys.modules.update(restate=None)"
    for module in ("_session.rules", "_session.pending", "_session.approvals", "_wire.types"):
        name = f"interruptible.{module}"
        load = f"sys.modules['interruptible'] = bare; import {name}"
        there = loaded(bare, hidden, load)
        assert name in there
        assert "restate.context" not in there  # or it would have failed
