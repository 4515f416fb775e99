"""What every framework is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from idemvox.batch import Batch, Sampler, Step, Swap
from idemvox.corpus.balance import Balance
from idemvox.corpus.crops import Crop, Views
from idemvox.encoders.base import Encoder, Scoring
from idemvox.errors import CorpusError
from idemvox.frameworks.parts.projector import Projector
from idemvox.ranks import gather

__all__ = ["Framework", "Paired", "Pairs", "Projected", "require_classes"]


class Framework(nn.Module):
    """An encoder, whatever heads the method has, and its loss.

    One file holds one framework; what two share moves down into ``losses`` or here.
    Subclasses define a frozen ``Options`` dataclass with the paper's numbers as defaults.
    """

    Options: ClassVar[type[Any]]
    supervised: ClassVar[bool] = False
    """Whether batches carry classes; no framework is given more of the labels than their numbers."""

    partly: ClassVar[bool] = False
    """Whether a supervised framework makes do without the classes of some utterances, which are -1."""

    tiny: ClassVar[Mapping[str, Any]] = {}
    """Options that make it small enough to train in a test."""

    partnered: ClassVar[frozenset[str]] = frozenset({"positive"})
    """The views that supervised positive sampling cuts from another utterance of the class."""

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        """Build on ``encoder``; ``classes`` is how many there are to tell apart, 0 unless supervised."""
        super().__init__()
        self.encoder = encoder
        self.options = self.Options() if options is None else options

    def views(self) -> Views:
        """Name the crops that :meth:`forward` reads."""
        raise NotImplementedError

    def balance(self) -> Balance | None:
        """Ask for several utterances of each class of a batch; only a supervised framework may."""
        return None

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        """Compute the loss of a batch; called once per step."""
        raise NotImplementedError

    @property
    def embedding_dim(self) -> int:
        """Width D of the targets handed to the positive sampler."""
        return self.encoder.dim

    @property
    def embedder(self) -> Encoder:
        """Return the encoder that is evaluated, clustered, exported and shipped."""
        return self.encoder

    @property
    def scoring(self) -> Scoring:
        """How the embedder's representations are compared, as the loss compares them; the model keeps it."""
        return "cosine"

    def target(self, batch: Batch) -> Tensor:
        """Return the (B, D) targets of a batch as a positive queue stores them, for the fill pass.

        Raises:
            NotImplementedError: by a framework that has no positives (a classifier).
        """
        raise NotImplementedError(f"{type(self).__name__} has no positives to sample")

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with another model's encoder."""
        self.encoder.load_state_dict(weights)

    def start_epoch(self, epoch: int) -> None:
        """Do what precedes an epoch counted from 0; all modules are in train mode."""

    def after_backward(self, epoch: int) -> None:
        """Change gradients before the optimiser's step, in an epoch counted from 0."""

    def after_step(self, progress: float) -> None:
        """Do what follows the optimiser's step (EMA and the like).

        Args:
            progress: share of the schedule that is done, this step included: 1 after the last one.
        """


def require_classes(who: str, classes: int, least: int = 2, instead: str = "simclr") -> None:
    """Refuse too few classes.

    Args:
        who: needs them.
        classes: there are.
        least: it needs.
        instead: a framework that needs none.
    """
    if classes < least:
        raise CorpusError(
            f"{who} needs at least {least} classes, here are {classes}: give a manifest with a speaker "
            f"column, or data.labels=FILE (a table of id and class); or train {instead}, which needs none"
        )


class Pairs(NamedTuple):
    """The embeddings that a loss compares: those of all ranks' batches, W B utterances.

    Attributes:
        query: (W B, D) of the anchors.
        target: (W B, D) of the same utterances' positive views, or of pseudo-positives.
        related: (W B, W B) which utterances are no negatives of which; ``None``: all others are.
        swap: what the positive sampler did, for the :class:`~idemvox.batch.Step`.
    """

    query: Tensor
    target: Tensor
    related: Tensor | None
    swap: Swap


class Paired(Framework):
    """A framework of two views of each utterance: an anchor, and the positive that it is to find.

    A subclass makes a loss of :meth:`embed`; its options have ``seconds``, the length of a crop.  One with a
    projector says so in :meth:`project`, and the projector's width in :attr:`embedding_dim`.
    """

    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2}

    disjoint: ClassVar[bool] = True
    """Whether the two crops never overlap."""

    def views(self) -> Views:
        crop = Crop(1, self.options.seconds, disjoint=self.disjoint)
        return {"anchor": crop, "positive": crop}

    def project(self, representation: Tensor) -> Tensor:
        """Return what the loss compares, of representations (B, dim): by default themselves."""
        return representation

    def target(self, batch: Batch) -> Tensor:
        return self.project(self.encoder(batch.views["positive"][:, 0]))

    def embed(self, batch: Batch, positives: Sampler) -> Pairs:
        """Embed both views of a batch, put pseudo-positives in, and gather what all ranks have."""
        query = self.project(self.encoder(batch.views["anchor"][:, 0]))  # (B, D)
        swap = positives(batch.ids, self.target(batch))
        return Pairs(gather(query), swap.targets, swap.related(gather(batch.ids)), swap)


class Projected(Paired):
    """A framework of two views whose loss compares projections; its options have ``hidden`` and ``outputs``.

    The projector is thrown away after training.
    """

    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2, "hidden": 16, "outputs": 8}
    disjoint = False

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.projector = self.build_projector()

    def build_projector(self) -> Projector:
        """Build what follows the encoder: by default two hidden layers."""
        o = self.options
        return Projector(self.encoder.dim, o.hidden, o.hidden, o.outputs)

    @property
    def embedding_dim(self) -> int:
        return int(self.options.outputs)

    def project(self, representation: Tensor) -> Tensor:
        projection: Tensor = self.projector(representation)
        return projection
