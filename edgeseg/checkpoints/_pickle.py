"""A pickle interpreter that can make numpy arrays and plain containers, and has nothing to run anything else with.

Python's unpickler calls what the file names; allow-lists around it have been talked round before, and the functions of
numpy that they must allow allocate what the file asks for. Here the opcodes (parsed by `pickletools`, which runs nothing)
drive a stack of our own: a global is a name, never an object, and the few names known are acted out by this module. An
array is only made when the bytes that it claims are in the file.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_MARK = object()


@dataclass
class Ndarray:
    """An array as the pickle describes it, before any of it is believed."""

    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("u1"))
    fortran: bool = False
    raw: bytes | bytearray | None = None

    def array(self, where: str) -> Array:
        """The array, a read-only view of the bytes in the file."""
        if self.raw is None:
            raise ValueError(f"{where} has no content")
        wanted = math.prod(self.shape) * self.dtype.itemsize
        if wanted != len(self.raw):
            raise ValueError(
                f"{where} claims {wanted} bytes for its shape {list(self.shape)}, and {len(self.raw)} are there"
            )
        flat: Array = np.frombuffer(self.raw, dtype=self.dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


@dataclass
class _Dtype:
    code: str
    order: str = "="

    def numpy(self) -> np.dtype[Any]:
        kind, size = self.code.lstrip("<>=|")[:1], self.code.lstrip("<>=|")[1:]
        if kind not in ("f", "i", "u", "b") or not size.isdigit() or int(size) not in (1, 2, 4, 8):
            raise ValueError(f"arrays of dtype {self.code!r} are no weights")
        order = self.code[0] if self.code[0] in "<>" else self.order
        return np.dtype(f"{order if order in ('<', '>') else '='}{kind}{int(size)}")


@dataclass(frozen=True)
class _Global:
    name: str


def _text(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise ValueError(f"text was expected, found {type(value).__name__}")
    return value


def _shape(value: object) -> tuple[int, ...]:
    if isinstance(value, int):
        value = (value,)
    if not isinstance(value, tuple) or len(value) > 32 or not all(type(item) is int and item >= 0 for item in value):
        raise ValueError("a shape was expected, found something else")
    return value


class _Machine:
    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self.content = content
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self) -> object:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(self.content)):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif (act := getattr(self, f"_do_{name.lower()}", None)) is not None:
                act(argument)
            else:
                self._refuse(f"has the opcode {name}, which makes objects that are no weights")
        raise ValueError("it has no end")

    def _refuse(self, what: str) -> None:
        raise CheckpointError(
            f"{self.path} {what}: refused, and nothing of the file was run",
            "a checkpoint of weights holds arrays and nothing else; do not open this file with anything that unpickles it",
        )

    def _since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise ValueError("a mark is missing")

    # Structure of the stream
    def _do_proto(self, version: int) -> None:
        if version > 5:
            raise ValueError(f"pickle protocol {version} is newer than any known")

    def _do_frame(self, _: int) -> None: ...

    def _do_mark(self, _: None) -> None:
        self.stack.append(_MARK)

    def _do_pop(self, _: None) -> None:
        self.stack.pop()

    def _do_pop_mark(self, _: None) -> None:
        self._since_mark()

    def _do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _do_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _do_binget = _do_long_binget = _do_get

    # Containers
    def _do_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _do_empty_list(self, _: None) -> None:
        self.stack.append([])

    def _do_empty_tuple(self, _: None) -> None:
        self.stack.append(())

    def _do_tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _do_tuple1(self, _: None, count: int = 1) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise ValueError("the stack is too short")
        del self.stack[-count:]
        self.stack.append(items)

    def _do_tuple2(self, _: None) -> None:
        self._do_tuple1(None, 2)

    def _do_tuple3(self, _: None) -> None:
        self._do_tuple1(None, 3)

    def _do_list(self, _: None) -> None:
        self.stack.append(self._since_mark())

    def _do_dict(self, _: None) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._fill(items)

    def _do_append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def _do_appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("something is appended to what is no list")
        self.stack[-1].extend(items)

    def _do_setitem(self, _: None) -> None:
        value = self.stack.pop()
        self._fill([self.stack.pop(), value])

    def _do_setitems(self, _: None) -> None:
        self._fill(self._since_mark())

    def _fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("keys and values are set where no dictionary is")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise ValueError(f"a dictionary key is {type(key).__name__}")
            target[key] = value

    # Names and what they stand for
    def _do_global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _do_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._name(_text(module), _text(name))

    def _name(self, module: str, name: str) -> None:
        full = f"{module}.{name}".replace("numpy.core.", "numpy._core.")
        if full not in _KNOWN:
            self._refuse(f"asks for {module}.{name}")
        self.stack.append(_Global(full))

    def _do_reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("a call was expected")
        self.stack.append(_KNOWN[function.name](self, *arguments))

    def _do_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Dtype) and isinstance(state, tuple) and len(state) > 1:
            target.order = _text(state[1])
        elif isinstance(target, Ndarray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, raw = state
            target.shape, target.fortran = _shape(shape), bool(fortran)
            target.dtype, target.raw = self._dtype(dtype), self._bytes(raw)
        else:
            raise ValueError(f"state is given to a {type(target).__name__}")

    def _dtype(self, value: object) -> np.dtype[Any]:
        if not isinstance(value, _Dtype):
            raise ValueError("a dtype was expected")
        return value.numpy()

    def _bytes(self, value: object) -> bytes | bytearray:
        if isinstance(value, str):  # bytes as Python 2 wrote them
            return self._encode(value)
        if not isinstance(value, (bytes, bytearray)):
            raise ValueError(f"an array's content is {type(value).__name__}: an array of objects is no weight")
        return value

    # The calls that are acted out
    def _encode(self, text: object, codec: object = "latin1") -> bytes:
        content = _text(text)
        if codec not in ("latin1", "latin-1"):
            raise ValueError("text is encoded in an unexpected way")
        self._copy(len(content))
        return content.encode("latin-1")

    def _copy(self, count: int) -> None:
        """Account for what is made anew of what the file names: it may name the same thing again and again."""
        self.copied += count
        if self.copied > len(self.content):
            raise ValueError("it makes more of its content than there is")

    def _empty_bytes(self) -> bytes:
        return b""

    def _as_tuple(self, items: object) -> tuple[Any, ...]:
        if not isinstance(items, (tuple, list)) or len(items) != 2:
            raise ValueError("a tuple of something else than name and tensor was asked for")
        return tuple(items)

    def _ordered(self, items: object = ()) -> dict[Any, Any]:
        if not isinstance(items, (tuple, list)) or not all(isinstance(i, (tuple, list)) and len(i) == 2 for i in items):
            raise ValueError("an ordered dictionary of something else was asked for")
        self._copy(len(items))
        self.stack.append({})
        self._fill([part for item in items for part in item])
        made: dict[Any, Any] = self.stack.pop()
        return made

    def _make_dtype(self, code: object, *_: object) -> _Dtype:
        return _Dtype(_text(code))

    def _reconstruct(self, *_: object) -> Ndarray:
        return Ndarray()

    def _frombuffer(self, raw: object, dtype: object, shape: object, order: object = "C", *_: object) -> Ndarray:
        return Ndarray(_shape(shape), self._dtype(dtype), order == "F", self._bytes(raw))

    def _scalar(self, dtype: object, raw: object) -> Ndarray:
        return Ndarray((), self._dtype(dtype), False, self._bytes(raw))

    def _no_call(self, *_: object) -> None:
        raise ValueError("numpy.ndarray is called")


_KNOWN: dict[str, Callable[..., object]] = {
    "numpy._core.multiarray._reconstruct": _Machine._reconstruct,
    "numpy._core.multiarray.scalar": _Machine._scalar,
    "numpy._core.numeric._frombuffer": _Machine._frombuffer,
    "numpy.ndarray": _Machine._no_call,
    "numpy.dtype": _Machine._make_dtype,
    "collections.OrderedDict": _Machine._ordered,
    "_codecs.encode": _Machine._encode,  # how protocol 2 writes bytes
    "builtins.bytes": _Machine._empty_bytes,
    "__builtin__.bytes": _Machine._empty_bytes,
    "builtins.tuple": _Machine._as_tuple,  # how Paddle writes a named tensor outside a state dict
    "__builtin__.tuple": _Machine._as_tuple,
}


def interpret(path: Path, content: bytes) -> object:
    """What a pickle describes: dict, list, tuple, str, bytes, int, float, bool, None and `Ndarray`; runs nothing of it.

    Args:
        path: The file, for messages.
        content: Its bytes; protocols 0 to 5.

    Raises:
        CheckpointError: It asks for anything else, which is named, or it is damaged.
    """
    try:
        return _Machine(path, content).run()
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is no whole pickle of arrays: {str(error)[:160] or type(error).__name__}",
            "copy or download it again; is it cut short?",
        ) from error
