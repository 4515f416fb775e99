from __future__ import annotations

import pytest
import torch

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.ecapa_tdnn import ECAPATDNN
from idemvox.encoders.pooling import sample_statistics
from idemvox.encoders.resnet34 import ResNet34
from idemvox.errors import IdemvoxError


def test_number_of_parameters() -> None:
    """WeSpeaker reports 6.63 M for it, and 14.65 M for its ECAPA-TDNN of 1024 channels."""
    with torch.device("meta"):
        resnet = ResNet34(None, FrontEndSettings(mels=80))
        sizes = ECAPATDNN.Options(dim=192, mfa_channels=1536, layout="wespeaker")
        ecapa = ECAPATDNN(sizes, FrontEndSettings(mels=80))
    assert sum(p.numel() for p in resnet.parameters()) == 6_634_336
    assert sum(p.numel() for p in ecapa.parameters()) / 1e6 == pytest.approx(14.65, abs=0.01)


def test_statistics_only_use_valid_frames() -> None:
    x = torch.randn(3, 4, 9)
    mean, deviation = sample_statistics(x, torch.tensor([9, 5, 1]), 1e-8)
    for row, frames in enumerate((9, 5)):
        torch.testing.assert_close(mean[row], x[row, :, :frames].mean(-1))
        torch.testing.assert_close(deviation[row], x[row, :, :frames].std(-1))
    torch.testing.assert_close(mean[2], x[2, :, 0])
    torch.testing.assert_close(deviation[2], torch.full((4,), 1e-4))


def test_context_belongs_to_one_layout() -> None:
    with pytest.raises(IdemvoxError, match="layout=wespeaker"):
        ECAPATDNN(ECAPATDNN.Options(context=False))
