"""Handlers that a user adds: what they are given by default, and what a body has to be."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal, Optional, cast

import pydantic
import pytest
from restate import InvocationRetryPolicy, TerminalError, VirtualObject
from restate.discovery import compute_discovery_json
from restate.endpoint import Endpoint
from restate.serde import BytesSerde, Serde
from typing_extensions import NotRequired, Required, TypedDict

from interruptible._wire import added as _added
from interruptible._wire.shapes import shape

from .test_types import accepts

anyio = pytest.mark.anyio


class Answer(TypedDict):
    turn: int
    yes: bool
    reason: NotRequired[str | None]


class Options(TypedDict, total=False):
    place: Required["Place"]
    tags: list[str]


class Place(TypedDict):
    floor: float


class Tree(TypedDict):
    """Has itself as a part."""

    name: str
    below: "list[Tree]"


class Model:
    """Stands in for a class of a library that reads JSON by itself."""


class ModelSerde(Serde[Any]):
    def deserialize(self, buf: bytes) -> Any:
        if b"bad" in buf:
            msg = "1 validation error for Model"
            raise ValueError(msg)
        return Model() if buf else None

    def serialize(self, obj: Any) -> bytes:
        return b""


async def deserialized(
    annotation: Any, body: bytes, serde: Serde[Any] | None = None, **options: Any
) -> Any:
    """What a handler that takes this is given for a body; or the reason and the status."""
    given: list[Any] = []

    async def take(ctx: Any, value: Any) -> None:
        given.append(value)

    take.__annotations__["value"] = annotation
    to = VirtualObject("Odd")
    if serde is not None:  # as the SDK sets it, for a model
        to.handler = _with(to.handler, serde)  # type: ignore[method-assign]
    _added.add(to, "take", take, {"kind": "shared", **options})
    handler: Any = to.handlers["take"]
    try:
        await handler.fn(None, handler.handler_io.input_serde.deserialize(body))
    except TerminalError as error:
        return error.message, error.status_code
    return given[0]


def _with(add: Any, serde: Serde[Any]) -> Any:
    return lambda **options: add(input_serde=serde, **options)


FITS: list[tuple[Any, bytes, Any]] = [
    (Any, b"", None),
    (Any, b"[1]", [1]),
    (object, b"", None),
    (str, b'"x"', "x"),
    (int, b"3", 3),
    (float, b"3", 3),
    (bool, b"true", True),
    (None, b"", None),
    (str | None, b"null", None),
    (Optional[int], b"3", 3),  # noqa: UP045 - as many write it
    (dict, b"{}", {}),
    (dict[str, Any], b'{"a": [1]}', {"a": [1]}),
    (Mapping[str, int], b'{"a": 1}', {"a": 1}),
    (list, b"[1]", [1]),
    (Sequence[str], b'["a"]', ["a"]),
    (tuple[int, str], b'[1, "a"]', [1, "a"]),
    (Literal["a", 1], b"1", 1),
    (Annotated[int, "counts"], b"3", 3),
    (Answer, b'{"turn": 1, "yes": true}', {"turn": 1, "yes": True}),
    (Answer, b'{"turn": 1, "yes": true, "x": 1}', {"turn": 1, "yes": True, "x": 1}),
    (Options, b'{"place": {"floor": 1}}', {"place": {"floor": 1}}),
    (Model, b'{"a": 1}', {"a": 1}),
]


@anyio
@pytest.mark.parametrize(("annotation", "body", "value"), FITS)
async def test_a_body_of_the_type_that_is_said_is_taken(
    annotation: Any, body: bytes, value: Any
) -> None:
    assert await deserialized(annotation, body) == value


MISFITS: list[tuple[Any, bytes, str]] = [
    (str, b"3", "body: must be text, not 3."),
    (str, b"", "body: must be text, not null."),
    (int, b"true", "body: must be a whole number, not true."),
    (int, b"1.5", "body: must be a whole number, not 1.5."),
    (float, b'"1"', 'body: must be a number, not "1".'),
    (bool, b"1", "body: must be true or false, not 1."),
    (None, b"1", "body: must be null, not 1."),
    (str | int | None, b"[]", "body: must be text or a whole number or null, not []."),
    (dict, b'"x"', 'body: must be a JSON object, not "x".'),
    (dict[str, int] | None, b'{"a": "b"}', 'body["a"]: must be a whole number, not "b".'),
    (dict[str, int] | None, b"[]", "body: must be a JSON object or null, not []."),
    (Place | Answer, b"{}", "body: must be a JSON object, not {}."),
    (dict[str, int], b'{"a": "b"}', 'body["a"]: must be a whole number, not "b".'),
    (list[int], b'[1, "a"]', 'body[1]: must be a whole number, not "a".'),
    (list, b"{}", "body: must be a list, not {}."),
    (tuple[int, str], b"[1]", "body: must be a list of 2, not [1]."),
    (tuple[int, str], b"[1, 2]", "body[1]: must be text, not 2."),
    (tuple[int, ...], b'[1, "a"]', 'body[1]: must be a whole number, not "a".'),
    (Sequence[str], b'"abc"', 'body: must be a list, not "abc".'),
    (Literal["a", 1], b"true", 'body: must be "a" or 1, not true.'),
    (Annotated[int, "counts"], b"[]", "body: must be a whole number, not []."),
    (Answer, b"[]", "body: must be a JSON object, not []."),
    (Answer, b'{"turn": 1}', "yes: is missing."),
    (Answer, b'{"turn": "1", "yes": 1}', 'turn: must be a whole number, not "1".'),
    (Answer, b'{"turn": 1, "yes": true, "reason": 2}', "reason: must be text or null, not 2."),
    (Tree, b'{"name": "a", "below": [{"name": 1}]}', "below[0].name: must be text, not 1."),
    (Options, b"{}", "place: is missing."),
    (Options, b'{"place": {}}', "place.floor: is missing."),
    (Options, b'{"place": {"floor": 1}, "tags": [1]}', "tags[0]: must be text, not 1."),
    (Model, b"", "body: must be Model, not null."),
    (Any, b"NaN", "body: is not JSON (NaN is not a JSON value)."),
]


@anyio
@pytest.mark.parametrize(("annotation", "body", "reason"), MISFITS)
async def test_a_body_of_another_type_is_refused_with_the_place_and_what_it_must_be(
    annotation: Any, body: bytes, reason: str
) -> None:
    got = await deserialized(annotation, body)
    assert got == (reason.replace("Model", f"{__name__}.Model"), 400)


@anyio
async def test_what_is_no_json_is_refused() -> None:
    reason, status = await deserialized(Any, b"{")
    assert (status, reason[:18]) == (400, "body: is not JSON ")


@anyio
async def test_what_a_library_for_models_refuses_is_refused_in_its_words() -> None:
    assert await deserialized(Model, b"bad", ModelSerde()) == (
        "body: 1 validation error for Model",
        400,
    )
    assert isinstance(await deserialized(Model, b"{}", ModelSerde()), Model)
    assert await deserialized(Model, b"", ModelSerde()) == (
        f"body: must be {__name__}.Model, not null.",
        400,
    )


@anyio
async def test_with_an_input_serde_nothing_is_checked() -> None:
    assert await deserialized(int, b"{", input_serde=BytesSerde()) == b"{"


def test_an_exclusive_handler_is_tried_again_for_ten_seconds_and_then_killed() -> None:
    async def act(ctx: Any) -> None: ...

    to = VirtualObject("Odd")
    own = InvocationRetryPolicy(max_attempts=3)
    _added.add(to, "act", act, {"kind": "exclusive"})
    _added.add(to, "look", act, {"kind": "shared"})
    _added.add(to, "own", act, {"kind": "exclusive", "invocation_retry_policy": own})
    _added.add(to, "servers", act, {"kind": "exclusive", "invocation_retry_policy": None})
    policies = {name: x.invocation_retry_policy for name, x in to.handlers.items()}
    assert policies == {
        "act": _added.LOCK_RETRY_POLICY,
        "look": None,
        "own": own,
        "servers": None,
    }
    policy = _added.LOCK_RETRY_POLICY
    assert policy.on_max_attempts == "kill"
    waits = [min(0.1 * 2**n, 1.5) for n in range((policy.max_attempts or 0) - 1)]
    assert 8 < sum(waits) * 1.3 < 14  # Restate adds up to 30 %
    assert policy.initial_interval == timedelta(milliseconds=100)


SCHEMAS: list[tuple[Any, Any]] = [
    (Any, {}),
    (object, {}),
    (Model, {}),
    (str, {"type": "string"}),
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (bool, {"type": "boolean"}),
    (None, {"type": "null"}),
    (str | None, {"type": ["string", "null"]}),
    (Optional[int], {"type": ["integer", "null"]}),  # noqa: UP045 - as many write it
    (int | Any, {}),
    (Literal["a", 1], {"enum": ["a", 1]}),
    (Literal["a"] | None, {"anyOf": [{"enum": ["a"]}, {"type": "null"}]}),
    (Annotated[int, "counts"], {"type": "integer"}),
    (dict, {"type": "object", "additionalProperties": True}),
    (dict[str, Any], {"type": "object", "additionalProperties": True}),
    (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (list, {"type": "array"}),
    (Sequence[str], {"type": "array", "items": {"type": "string"}}),
    (list[Any], {"type": "array", "items": {}}),
    (tuple, {"type": "array"}),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
    (
        tuple[int, str],
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
    ),
    (
        Answer,
        {
            "title": "Answer",
            "type": "object",
            "properties": {
                "turn": {"type": "integer"},
                "yes": {"type": "boolean"},
                "reason": {"type": ["string", "null"]},
            },
            "required": ["turn", "yes"],
        },
    ),
    (
        Options,
        {
            "title": "Options",
            "type": "object",
            "properties": {
                "place": {
                    "title": "Place",
                    "type": "object",
                    "properties": {"floor": {"type": "number"}},
                    "required": ["floor"],
                },
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["place"],
        },
    ),
    (
        Tree,
        {
            "title": "Tree",
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "below": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["name", "below"],
        },
    ),
]


@pytest.mark.parametrize(("annotation", "schema"), SCHEMAS)
def test_a_type_has_a_schema_that_says_what_is_checked(annotation: Any, schema: Any) -> None:
    assert shape(annotation).schema == schema


@pytest.mark.parametrize(
    ("annotation", "body", "fits"),
    [
        *((annotation, body, True) for annotation, body, _ in FITS if body),
        *(
            (annotation, body, False)
            for annotation, body, _ in MISFITS
            if body not in (b"", b"NaN") and annotation is not Tree  # it says nothing inside
        ),
    ],
)
def test_the_schema_of_a_type_accepts_what_the_check_accepts(
    annotation: Any, body: bytes, fits: bool
) -> None:
    assert accepts(shape(annotation).schema, json.loads(body)) is fits


def shown(method: Any, **options: Any) -> tuple[Any, Any]:
    """The schemas that Restate shows of what a handler takes and gives."""
    to = VirtualObject("Odd")
    _added.add(to, "act", method, {"kind": "shared", **options})
    endpoint: Any = cast("Any", Endpoint)()
    endpoint.bind(to)
    (service,) = json.loads(compute_discovery_json(endpoint, 4, "bidi"))["services"]
    (handler,) = service["handlers"]
    return handler["input"].get("jsonSchema"), handler["output"].get("jsonSchema")


def test_what_a_handler_takes_and_gives_is_shown() -> None:
    async def act(ctx: Any, value: Answer) -> list[Place]: ...
    async def no_types(ctx, value): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    async def nothing(ctx: Any) -> None: ...

    place = shape(Place).schema
    assert shown(act) == (shape(Answer).schema, {"type": "array", "items": place})
    assert shown(no_types) == (None, None)
    assert shown(nothing) == (None, None)
    assert shown(act, input_serde=BytesSerde(), output_serde=BytesSerde()) == (
        True,
        {"type": "array", "items": True},
    )


def test_what_a_library_for_models_says_is_shown_as_it_is() -> None:
    class Pet(pydantic.BaseModel):
        name: str

    async def act(ctx: Any, value: Pet) -> Pet: ...

    act.__annotations__ |= {"value": Pet, "return": Pet}
    pet = Pet.model_json_schema(mode="serialization")
    assert shown(act) == (pet, pet)
