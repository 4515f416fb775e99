"""The losses of an epoch by utterance, which show how reliable the labels are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from idemvox.losses.gate import LogMixture, crossing, fit_log_mixture

__all__ = ["EpochLosses", "with_own"]


class EpochLosses(nn.Module):
    """The loss of each utterance in an epoch, and the mixture that is fitted to those of the epoch before.

    It must know the losses of all ranks. Everything in it is checkpointed, and :meth:`fit` does nothing when
    a resumed run calls it again, so an epoch goes on with the mixture that it began with.

    Args:
        utterances: number N of utterances.
    """

    newest: Tensor
    """(N,) the loss of each utterance in the current epoch, NaN if it had none yet."""
    mixture: Tensor
    """(3, 2) weights, means and variances in fp64, NaN before the first."""
    limit: Tensor
    """The loss at which the two components are equally dense, infinite before the first."""
    epoch: Tensor
    """The epoch for which the mixture was fitted, -1 for none."""

    def __init__(self, utterances: int) -> None:
        super().__init__()
        self.register_buffer("newest", torch.full((utterances,), torch.nan))
        self.register_buffer("mixture", torch.full((3, 2), torch.nan, dtype=torch.float64))
        self.register_buffer("limit", torch.tensor(torch.inf, dtype=torch.float64))
        self.register_buffer("epoch", torch.tensor(-1))

    @torch.no_grad()
    def observe(self, ids: Tensor, losses: Tensor) -> None:
        """Store the losses (B,) of utterances (B,); of an utterance that occurs twice, one of them."""
        self.newest[ids] = losses.detach().to(self.newest.dtype)

    @torch.no_grad()
    def fit(self, epoch: int) -> None:
        """Fit the mixture for an epoch to the losses of the epoch before, and forget those.

        If they have no mixture, or it has no single crossing, the previous mixture or limit is kept.
        """
        if int(self.epoch) == epoch:
            return
        found = fit_log_mixture(self.newest)
        if found is not None:
            self.mixture.copy_(torch.stack(list(found)))
            if (at := crossing(found)) is not None:
                self.limit.fill_(at).exp_()
        self.newest.fill_(torch.nan)
        self.epoch.fill_(epoch)

    def fitted(self) -> LogMixture | None:
        """Return the newest mixture; ``None`` before the first."""
        return None if bool(self.mixture.isnan().any()) else LogMixture(*self.mixture)


def with_own(state: Mapping[str, Tensor], module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return another run's state with this module's entries below ``prefix`` in place of that run's."""
    theirs = {name: value for name, value in state.items() if not name.startswith(prefix)}
    return theirs | {name: value for name, value in module.state_dict().items() if name.startswith(prefix)}
