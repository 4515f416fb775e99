"""An exported encoder, run by onnxruntime without torch."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import IdemvoxError, ModelError

__all__ = ["ONNX_FILE", "OnnxEncoder", "import_onnxruntime"]

ONNX_FILE = "model.onnx"
"""An exported encoder in its model folder."""


def import_onnxruntime() -> Any:
    """Return the library, which from 1.29 on would report each model it loads to its maker; not from here.

    Raises:
        IdemvoxError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    try:
        import onnxruntime
    except ImportError as error:
        raise IdemvoxError(
            "exported models need onnxruntime, which is not installed: pip install 'idemvox[onnx]'"
        ) from error
    return onnxruntime


class OnnxEncoder:
    """Waveforms in, embeddings out, like :class:`~idemvox.encoders.base.Encoder`, but with arrays.

    It runs on the processor. Several threads may call it at once. It pickles as the path of its file.

    Args:
        path: the file.
        threads: of its own; default: ``OMP_NUM_THREADS`` if that is set, else one for each core.

    Raises:
        IdemvoxError: onnxruntime is not installed.
        ModelError: the file is missing, damaged, or computes something else.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        onnxruntime = import_onnxruntime()
        state = onnxruntime.capi.onnxruntime_pybind11_state
        if not path.is_file():
            raise ModelError(f"{path.parent} is damaged: {path.name} is missing; export the model again")
        self._path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(threads or os.environ.get("OMP_NUM_THREADS", "0"))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait, sleep
        options.enable_cpu_mem_arena = False  # it would keep what the longest recording took
        options.log_severity_level = 3  # errors
        damaged = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except (*damaged, state.NotImplemented, state.RuntimeException) as error:
            why = shorten(str(error), 300)
            raise ModelError(f"{path} cannot be run ({why}): export the model again") from error

    def __reduce__(self) -> tuple[type[OnnxEncoder], tuple[Path]]:
        return OnnxEncoder, (self._path,)

    def __call__(self, wave: ArrayLike, lengths: ArrayLike) -> NDArray[np.float32]:
        """(B, T) samples at 16 kHz, full scale at 1, and (B,) valid ones -> (B, D)."""
        given = {"wave": np.asarray(wave, np.float32), "lengths": np.asarray(lengths, np.int64)}
        embeddings: NDArray[np.float32] = self._session.run(None, given)[0]
        return embeddings
