from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.ecapa_tdnn import ECAPATDNN, Res2Net, reflect_pad
from idemvox.errors import IdemvoxError


@pytest.mark.parametrize(
    ("mels", "channels", "mfa", "dim", "millions"),
    [
        (40, 1024, 3072, 512, 22.53),
        (80, 1024, 3072, 512, 22.73),
        (80, 1024, 3072, 192, 20.77),
        (80, 1024, 1536, 192, 14.66),
        (80, 512, 1536, 192, 6.19),
    ],
)
def test_number_of_parameters(mels: int, channels: int, mfa: int, dim: int, millions: float) -> None:
    with torch.device("meta"):
        options = ECAPATDNN.Options(dim=dim, channels=channels, mfa_channels=mfa)
        encoder = ECAPATDNN(options, FrontEndSettings(mels=mels))
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


def test_channels_must_be_divisible() -> None:
    with pytest.raises(IdemvoxError, match="multiple of scale"):
        ECAPATDNN(ECAPATDNN.Options(channels=100))


def test_res2net_is_a_chain() -> None:
    torch.manual_seed(0)
    layer = Res2Net(12, 3, 3, 2).eval()
    x = torch.randn(2, 12, 20)

    def step(index: int, chunk: torch.Tensor) -> torch.Tensor:
        tdnn = layer.steps[index]
        padded = functional.pad(chunk, (2, 2), mode="reflect")
        y = functional.conv1d(padded, tdnn.conv.weight, tdnn.conv.bias, dilation=2)  # type: ignore[arg-type, union-attr]
        return tdnn.norm(functional.relu(y))  # type: ignore[operator, no-any-return]

    second = step(0, x[:, 4:8])
    third = step(1, x[:, 8:] + second)
    torch.testing.assert_close(layer(x, None), torch.cat([x[:, :4], second, third], dim=1))


def test_reflection_at_both_ends() -> None:
    x = torch.arange(14.0).view(2, 1, 7)
    padded = reflect_pad(x, 2, torch.tensor([7, 4]))
    torch.testing.assert_close(padded[0], functional.pad(x[:1], (2, 2), mode="reflect")[0])
    assert padded[1, 0, :8].tolist() == [9, 8, 7, 8, 9, 10, 9, 8]
    assert reflect_pad(x[:, :, :2], 4, None)[0, 0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
