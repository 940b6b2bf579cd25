"""Bodies of multipart/form-data: the JSON is the part `request`, arrays and weights are files beside it.

A part takes the place of a field, and what it holds goes through the same checks as if it stood there. Parts
are read in memory, so that nothing is left on the disk, and nothing in them is ever unpickled.
"""

from __future__ import annotations

import io
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from safetensors import SafetensorError, deserialize

from ntkengine.data import BAD_HEADER, read_npy
from ntkengine.pointers import pointer_to
from service.errors import Offence, ServiceError, shortened
from service.routes.strict_json import decode

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM = "multipart/form-data"
REQUEST = "request"

HOW_TO_SEND = "Send it as curl -F does: each part with its name, and the closing boundary at the end."
HOW_TO_LABEL = "Label the part: curl -F 'request=@request.json;type=application/json'."
HOW_TO_SAVE_ARRAYS = "Write an array of numbers with numpy.save(path, array, allow_pickle=False)."
HOW_TO_SAVE_WEIGHTS = (
    "Write a safetensors file: safetensors.torch.save_file(network.state_dict(), path). "
    "What torch.save writes is pickled, and never read here."
)
HOW_TO_CONVERT = "Convert it before saving: tensor.to(torch.float64)."

# Numbers of any type are float64 from here on: a body full of int8 would take eight times its size.
MOST_NUMBERS = 2**23
HOW_TO_SEND_MORE = "Send fewer rows, or add a data set by POST /datasets and name it."

TENSOR_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


class Unreadable(Exception):
    """A file is not what it should be; `keys` lead to what is wrong in it."""

    def __init__(self, detail: str, hint: str, *keys: str) -> None:
        super().__init__(detail)
        self.hint = hint
        self.keys = keys


def read_array(data: bytes) -> Any:
    """The array of an .npy file.

    Raises:
        Unreadable: it is none, or holds something else than numbers.
    """
    try:
        return read_npy(data)
    except ValueError as error:
        raise Unreadable(f"This is no .npy file of numbers: {error}.", HOW_TO_SAVE_ARRAYS) from None


def read_weights(data: bytes) -> dict[str, Any]:
    """The tensors of a safetensors file, by name.

    Raises:
        Unreadable: it is none, or a tensor is of a type other than float32 and float64.
    """
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise Unreadable(f"This is no safetensors file: {error}.", HOW_TO_SAVE_WEIGHTS) from None
    # Sorted, because files have them in any order, and the same weights are the same request.
    return {name: _tensor(name, tensors[name]) for name in sorted(tensors)}


def _tensor(name: str, tensor: Mapping[str, Any]) -> Any:
    dtype = TENSOR_TYPES.get(tensor["dtype"])
    if dtype is None:
        detail = f"Weights are float32 (F32) or float64 (F64); {name} is {tensor['dtype']}."
        raise Unreadable(detail, HOW_TO_CONVERT, name)
    values: Any = np.frombuffer(tensor["data"], dtype)
    return values.reshape(tensor["shape"])


@dataclass(frozen=True)
class File:
    """A part that takes the place of a field of the JSON."""

    place: tuple[str, ...]
    """The keys that lead to the field."""
    read: Callable[[bytes], Any]
    """The field's value, of the bytes of the file."""
    description: str

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer."""
        return pointer_to(*self.place)


Files = Mapping[str, File]  # by the name of the part


def arrays(*places: str) -> dict[str, File]:
    """Parts with arrays, each named like the field at its pointer."""
    keys = [tuple(place.strip("/").split("/")) for place in places]
    return {
        key[-1]: File(key, read_array, f"An .npy file with the array of `{place}`.")
        for place, key in zip(places, keys, strict=True)
    }


def onnx_file(place: str) -> dict[str, File]:
    """The part with a model; it is parsed where it is used."""
    said = f"An ONNX file, the model of `{place}`."
    return {"onnx": File(tuple(place.strip("/").split("/")), lambda data: b64encode(data).decode(), said)}


def weights(place: str) -> dict[str, File]:
    """The part with weights of a finite network."""
    said = f"A safetensors file with the weights of `{place}`: float32 or float64, by their names."
    return {"weights": File(tuple(place.strip("/").split("/")), read_weights, said)}


def read_form(body: bytes, content_type: str, files: Files) -> Any:
    """The decoded JSON of a form, with its files in their places.

    Raises:
        ServiceError: the form, its JSON or a file cannot be read, or a part has no place.
    """
    parts = split(body, content_type, [REQUEST, *files])
    request = parts.pop(REQUEST, None)
    if request is None:
        detail = "The form has no part `request` with the JSON of the request."
        raise _wrong(REQUEST, detail, f"Add it. {HOW_TO_LABEL}")
    _check_label(request.content_type)
    decoded = decode(request.data)
    room = MOST_NUMBERS
    for name, part in parts.items():
        room = _put(decoded, name, files[name], part.data, room)
    return decoded


def check_encoded(decoded: Any) -> None:
    """Refuse arrays in JSON that are encoded and would be too many numbers, before they are decoded.

    Raises:
        ServiceError: by what their headers say; what is no array is left to those who read it.
    """
    if sum(map(npy_size, _encoded(decoded))) > MOST_NUMBERS:
        detail = f"The encoded arrays of a request hold at most {MOST_NUMBERS} numbers."
        raise ServiceError("too-large", detail, hint=HOW_TO_SEND_MORE)


def _encoded(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(text := value.get("base64"), str):
            yield text
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _encoded(inner)


def npy_size(text: str) -> int:
    """How many numbers an .npy file in base64 says that it has, at most what fits; 0 if nothing."""
    try:
        file = io.BytesIO(b64decode(text[:1024]))
        np.lib.format.read_magic(file)
        shape, *_ = np.lib.format.read_array_header_1_0(file)
    except (ValueError, *BAD_HEADER):
        return 0
    return min(
        math.prod(shape), len(text)
    )  # a number takes a byte at least; a header that lies is refused later


def _check_label(content_type: str) -> None:
    media = content_type.partition(";")[0].strip().lower()
    if media not in {"", "application/json"}:  # a browser's form gives text no label
        detail = f"The part `request` is application/json, not {media}."
        wrong = _offence(REQUEST, detail, HOW_TO_LABEL)
        raise ServiceError("unsupported-media-type", detail, offences=[wrong])


def _put(decoded: Any, name: str, file: File, data: bytes, room: int) -> int:
    """Put what a file holds in its place; return how many more numbers there may be."""
    holder = _holder(decoded, file.place)
    field = file.place[-1]
    if field in holder:
        detail = f"{file.pointer} was given both in the JSON and as the part `{name}`."
        raise _wrong(file.pointer, detail, "Give one of them.")
    try:
        holder[field] = value = file.read(data)
    except Unreadable as error:
        pointer = pointer_to(*file.place, *error.keys)
        raise _wrong(pointer, f"Part `{name}`: {error}", error.hint) from None
    left = room - sum(np.size(array) for array in getattr(value, "values", lambda: [value])())
    if left < 0:
        detail = f"The files of a form hold at most {MOST_NUMBERS} numbers; `{name}` is over that."
        raise ServiceError("too-large", detail, offences=[_offence(file.pointer, detail, HOW_TO_SEND_MORE)])
    return left


def _holder(here: Any, place: Sequence[str], pointer: str = "") -> dict[str, Any]:
    """The object that holds the field at a place; objects on the way there are made if they are missing."""
    key, *rest = place
    if not hasattr(here, "keys"):
        detail = f"A part of the form belongs to {pointer}/{'/'.join(place)}, and this is no object."
        raise _wrong(pointer, detail, "Write an object, or leave it out.")
    return _holder(here.setdefault(key, {}), rest, pointer + pointer_to(key)) if rest else here


class Part(NamedTuple):
    """One part of a form."""

    content_type: str
    data: bytes


def split(body: bytes, content_type: str, names: Collection[str]) -> dict[str, Part]:
    """The parts of a form by their names.

    Raises:
        ServiceError: it is malformed or ends early, or a part has a name that is not among `names`, or one
            that another part has.
    """
    _, options = parse_options_header(content_type)
    collector = _Collector(names)
    try:
        MultipartParser(options.get(b"boundary", b""), collector.callbacks()).write(body)
    except FormParserError as error:
        raise _malformed(f"The form cannot be read: {error}.") from None
    if not collector.ended:
        raise _malformed("The form ends before its closing boundary.")
    return collector.parts


class _Collector:
    """Takes what the parser finds in a form; a part that nobody wants ends the reading."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._headers: dict[str, bytes] = {}
        self._field = b""
        self._value = b""
        self._pieces: list[bytes] = []
        self._name = ""
        self.parts: dict[str, Part] = {}
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._pieces = {}, []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._name = name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in self._names:
            known = ", ".join(self._names)
            raise _wrong(name, f"There is no part {shortened(name)} in this form.", f"Its parts are {known}.")
        if name in self.parts:
            raise _wrong(name, f"The part `{name}` was sent twice.", "Send it once.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _part_end(self) -> None:
        content_type = self._headers.get("content-type", b"").decode("latin-1")
        self.parts[self._name] = Part(content_type, b"".join(self._pieces))

    def _end(self) -> None:
        self.ended = True


def _malformed(detail: str) -> ServiceError:
    return ServiceError("malformed", detail, hint=HOW_TO_SEND, offences=[_offence("", detail, HOW_TO_SEND)])


def _wrong(pointer: str, detail: str, hint: str) -> ServiceError:
    return ServiceError("invalid", detail, offences=[_offence(pointer, detail, hint)])


def _offence(pointer: str, detail: str, hint: str) -> Offence:
    return Offence(pointer=pointer, detail=detail, hint=hint)


def form_documentation(files: Files, example: Any) -> dict[str, Any]:
    """What the OpenAPI document says of the form, beside what it says of JSON."""
    request = {
        "type": "object",
        "description": "What application/json would carry, but for the fields that are sent as files.",
        "examples": [example],
    }
    named = {
        name: {"type": "string", "format": "binary", "description": file.description}
        for name, file in files.items()
    }
    labels = {REQUEST: "application/json", **dict.fromkeys(files, "application/octet-stream")}
    form = {
        "schema": {
            "type": "object",
            "required": [REQUEST],
            "additionalProperties": False,
            "properties": {REQUEST: request, **named},
        },
        "encoding": {name: {"contentType": label} for name, label in labels.items()},
    }
    return {"requestBody": {"content": {FORM: form}}}
