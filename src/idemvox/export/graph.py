"""An encoder as an ONNX graph: waveforms and their lengths in, embeddings out, the front end inside."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from idemvox.audio.read import SAMPLE_RATE
from idemvox.encoders.base import Encoder
from idemvox.errors import IdemvoxError, ModelError
from idemvox.onnx_encoder import import_onnxruntime

__all__ = ["quantise", "require_onnx", "write_graph"]

_QUANTISED = ("Conv", "Gemm", "LSTM", "MatMul")
_LOUD = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "root")


def require_onnx() -> None:
    """Check that what writes ONNX files is installed.

    Raises:
        IdemvoxError: it is not.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise IdemvoxError(
            f"exporting needs {' and '.join(missing)}, not installed here: pip install 'idemvox[export]'"
        )


def write_graph(encoder: Encoder, path: Path) -> None:
    """Write an encoder as an ONNX file.

    Its inputs are ``wave`` (B, T), float32 at 16 kHz with full scale at 1, and ``lengths`` (B,), int64, of at
    least 400 samples; its output is ``embedding`` (B, dim), not normalised. B and T may be anything, and
    padding changes nothing.

    Raises:
        ModelError: this kind of encoder, or this one, cannot be exported.
    """
    encoder = copy.deepcopy(encoder).cpu().eval()
    encoder.for_export()
    wave = torch.randn(2, 2 * SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) / 10
    lengths = torch.tensor([2 * SAMPLE_RATE, SAMPLE_RATE])
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            encoder,
            (wave, lengths),
            dynamo=True,
            dynamic_shapes={"wave": {0: "batch", 1: "samples"}, "lengths": {0: "batch"}},
            input_names=["wave", "lengths"],
            output_names=["embedding"],
            verbose=False,
        )
    if program is None or not all(
        name in str(program.model.graph.inputs[0].shape) for name in ("batch", "samples")
    ):
        raise ModelError("the exported graph would take recordings of one length only: please report this")
    program.save(path, external_data=False)


def quantise(source: Path, target: Path) -> None:
    """Write an ONNX file with weights of 8 bits; activations are quantised at run time.

    The front end stays in float32.
    """
    import_onnxruntime()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source).graph
    front = [node.name for node in graph.node if any(name.startswith("frontend.") for name in node.input)]
    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(_QUANTISED),
            weight_type=QuantType.QUInt8,  # onnxruntime has no convolution of signed weights
            nodes_to_exclude=front,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters say of themselves."""
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
