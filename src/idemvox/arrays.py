"""Array types that many modules share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Numbers", "Pcm", "Wave"]

Wave: TypeAlias = NDArray[np.float32]
"""Samples, full scale at 1."""

Pcm: TypeAlias = NDArray[np.int16]
"""16-bit samples."""

Numbers: TypeAlias = NDArray[np.int64]
"""Integers: positions of utterances, sample counts, labels."""
