"""What the modules of this package share: reading a file without executing anything in it, and renaming."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from idemvox.audio.frontend import FrontEndSettings
from idemvox.errors import ModelError

__all__ = ["Converted", "Peer", "State", "below", "read_tensors", "renamed"]

State = dict[str, Tensor]

_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as NumPy 1 named it
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)),
]
"""What NumPy's numbers are made of, such as the best error rate beside the weights."""


@dataclass(frozen=True, slots=True)
class Converted:
    """Weights in our layout, and what they are to be loaded into.

    Attributes:
        encoder: name in the registry of encoders.
        options: those of the encoder that the weights need.
        state: by the names of our encoder.
        frontend: settings that the weights were trained with.
        unused: names in the file of what is not the encoder, such as a classifier.
    """

    encoder: str
    options: dict[str, Any]
    state: State
    frontend: FrontEndSettings
    unused: list[str] = field(default_factory=list)


class Peer(ABC):
    """A toolkit whose weights can be imported; a subclass registers itself in ``PEERS``.

    Attributes:
        about: which of its files can be imported, for the help.
        licence: of the weights that it publishes, where it says so.
    """

    about: ClassVar[str]
    licence: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def convert(cls, state: Mapping[str, Tensor]) -> Converted:
        """Return the weights in our layout.

        Args:
            state: tensors by the toolkit's names; those in nested dictionaries have names joined by dots.

        Raises:
            ModelError: the tensors are not those of one of its encoders that we have.
            KeyError: a tensor is missing; the caller names the file.
        """


def read_tensors(file: Path) -> State:
    """Read the tensors of a ``.safetensors`` file, or of one written by ``torch.save``.

    Nothing in the file is executed. Names of nested dictionaries are joined by dots; other values are left
    out.

    Raises:
        ModelError: the file is missing or damaged, or holds more than tensors and plain values.
    """
    if not file.is_file():
        raise ModelError(f"there is no file {file}: give the file that holds the weights")
    if file.suffix == ".safetensors":
        try:
            return dict(load_file(file))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {file}: {error}; fetch it again") from error
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{file} was not read ({type(error).__name__}): it is damaged, or holds more than tensors and "
            "plain values. Nothing in it was executed. If you trust it, save only its state_dict with "
            "torch.save, in the toolkit that wrote it, and import that"
        ) from error
    return dict(_tensors(content, ""))


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested dictionaries, by their joined names."""
    if isinstance(value, Tensor):
        yield name, value.detach()
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _tensors(below, f"{name}.{key}" if name else str(key))


def below(state: Mapping[str, Tensor], prefix: str) -> tuple[State, list[str]]:
    """Return the tensors whose names begin with a regular expression, without it, and the other names."""
    chosen: State = {}
    others: list[str] = []
    for name, tensor in state.items():
        if match := re.match(prefix, name):
            chosen[name[match.end() :]] = tensor
        else:
            others.append(name)
    return chosen, others


def renamed(state: Mapping[str, Tensor], rules: Mapping[str, str]) -> tuple[State, list[str]]:
    """Rename tensors.

    Args:
        state: tensors by their old names.
        rules: regular expressions of whole old names, and what the names become (``re.sub``); the first that
            matches counts.

    Returns:
        The renamed tensors, and the names that no rule matches.
    """
    new: State = {}
    unused: list[str] = []
    for name, tensor in state.items():
        for old, replacement in rules.items():
            if match := re.fullmatch(old, name):
                new[match.expand(replacement)] = tensor
                break
        else:
            unused.append(name)
    return new, unused
