"""Reading CTranslate2's `model.bin`: named tensors, some of them quantised, and aliases of them."""

import math
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from trimbre.errors import UserError

BINARY_VERSION = 6
"""What CTranslate2 has written since its version 3."""
TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By their numbers in the file."""
QUANTISED = (torch.int8, torch.int16)
MOST_VERSIONS = 1000  # a first number above this is another format's magic


class ModelBin(NamedTuple):
    """What a `model.bin` holds."""

    spec: str
    """Name of the kind of model, such as `WhisperSpec`."""
    revision: int
    """Version of that kind's layout."""
    variables: dict[str, Tensor]
    """Every variable by name, those that are aliases included, in the type that it's stored in."""

    def weight(self, name: str) -> Tensor:
        """A variable as numbers: a quantised one is divided by its scale, one for every row or one for all."""
        value = self.variables[name]
        if value.dtype not in QUANTISED or f"{name}_scale" not in self.variables:
            return value
        scale = self.variables[f"{name}_scale"].float()
        return value.float() / (scale.reshape(-1, *[1] * (value.dim() - 1)) if scale.dim() else scale)


def read_model_bin(path: Path) -> ModelBin:
    """Read a file that may come from anyone: nothing is taken on trust, and no more is read than there is.

    The format, little-endian: u32 version; string kind; u32 revision; u32 count of variables, each a string name, u8
    rank, u32 dimensions, u8 type, u32 bytes and the data; u32 count of aliases, each a string alias and a string name.
    A string is its length in u16, final NUL included, and its bytes.

    Raises:
        UserError: it's no such file, cut off, damaged, or of a version that isn't known.
    """
    with path.open("rb") as file:
        return _ModelBinReader(path, file).read()


class _ModelBinReader:
    """A cursor in a file that says so where the file ends too early."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file = path, file
        self.left = path.stat().st_size

    def read(self) -> ModelBin:
        if self.left < 4 or not 1 <= (version := self.number("I")) <= MOST_VERSIONS:
            raise UserError(f"{self.path} is not a CTranslate2 model: give a directory that its converter wrote")
        if version != BINARY_VERSION:
            raise UserError(
                f"{self.path} is of CTranslate2's binary version {version} and version {BINARY_VERSION} can be read: "
                "convert the original with a current CTranslate2"
            )
        spec, revision = self.string(), self.number("I")
        variables: dict[str, Tensor] = {}
        for _ in range(self.number("I")):
            name = self.string()
            if name in variables:
                raise self.damaged(f"{name} occurs twice")
            variables[name] = self.tensor(name)
        for _ in range(self.number("I")):
            alias, name = self.string(), self.string()
            if name not in variables or alias in variables:
                raise self.damaged(f"the alias {alias} of {name} leads nowhere")
            variables[alias] = variables[name]
        if self.left:
            raise self.damaged(f"{self.left} bytes follow its end")
        return ModelBin(spec, revision, variables)

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise UserError(f"{self.path} is cut off: fetch it again")
        self.left -= count
        return self.file.read(count)

    def number(self, form: str) -> int:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0]

    def string(self) -> str:
        raw = self.take(self.number("H"))
        try:
            return raw.removesuffix(b"\0").decode()
        except UnicodeDecodeError as error:
            raise self.damaged("a name in it is no text") from error

    def tensor(self, name: str) -> Tensor:
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, size = self.number("B"), self.number("I")
        if kind >= len(TYPES):
            raise self.damaged(f"{name} is of the unknown type {kind}")
        if size != math.prod(shape) * TYPES[kind].itemsize:
            raise self.damaged(f"{name} does not have the size that its shape {shape} says")
        data = bytearray(self.take(size))
        return torch.frombuffer(data, dtype=TYPES[kind]).reshape(shape) if data else torch.empty(shape)

    def damaged(self, how: str) -> UserError:
        return UserError(f"{self.path} is damaged ({how}): fetch it again")
