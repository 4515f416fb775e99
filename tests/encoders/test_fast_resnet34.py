from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.fast_resnet34 import Block, FastResNet34


@pytest.mark.parametrize(("dim", "count"), [(512, 1_437_078), (256, 1_404_054)])
@pytest.mark.parametrize("mels", [40, 80])
def test_number_of_parameters(dim: int, count: int, mels: int) -> None:
    with torch.device("meta"):
        encoder = FastResNet34(FastResNet34.Options(dim=dim), FrontEndSettings(mels=mels))
    assert sum(p.numel() for p in encoder.parameters()) == count


def test_blocks_are_counted_layer_by_layer() -> None:
    encoder = FastResNet34(FastResNet34.Options(dim=8, channels=(4, 4, 4, 4), blocks=(1, 2, 3, 1)))
    assert [len(encoder.get_submodule(f"layer{n}")) for n in (1, 2, 3, 4)] == [1, 2, 3, 1]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_equals_the_published_one(stride: int) -> None:
    """conv, ReLU, BN, conv, BN, gates, plus the input, ReLU: written out plainly."""
    torch.manual_seed(0)
    block = Block(8, 16 if stride == 2 else 8, stride).train()
    x = torch.randn(3, 8, 6, 11)
    y = block.bn1(functional.relu(block.conv1(x)))
    y = block.bn2(block.conv2(y))
    squeezed = functional.relu(block.gate.squeeze(y.mean(dim=(2, 3))))
    y = y * torch.sigmoid(block.gate.excite(squeezed))[:, :, None, None]
    expected = functional.relu(y + (x if block.shortcut is None else block.shortcut(x)))
    torch.testing.assert_close(block(x, None), expected)
    ours = block(x.contiguous(memory_format=torch.channels_last), None)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, expected)


def test_layers_halve_time_twice() -> None:
    encoder = FastResNet34(FastResNet34.Options(dim=8, channels=(8, 8, 16, 16))).eval()
    seen: list[torch.Size] = []
    encoder.pool.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    with torch.no_grad():
        encoder(torch.randn(2, 16_000))  # 101 frames
    assert seen == [torch.Size([2, 16, 26])]


def test_a_few_frames_under_autocast() -> None:
    """oneDNN's strided bfloat16 convolution reads past two columns; such inputs run in single precision."""
    torch.manual_seed(0)
    encoder = FastResNet34(FastResNet34.Options(dim=8, channels=(8, 16, 32, 64))).eval()
    with torch.no_grad():
        for samples in (1, 200, 400, 600, 700, 900):
            wave = 0.1 * torch.randn(2, samples)
            for _ in range(3):
                junk = [torch.full((size,), float("nan")) for size in (64, 1024, 16384) for _ in range(8)]
                del junk
                with torch.autocast("cpu", torch.bfloat16):
                    rough = encoder(wave)
                torch.testing.assert_close(rough.float(), encoder(wave), atol=0.05, rtol=0.05)
