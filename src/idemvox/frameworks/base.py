"""Base classes of frameworks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from idemvox.batch import Batch, Sampler, Step, Swap
from idemvox.corpus.balance import Balance
from idemvox.corpus.crops import Crop, Views
from idemvox.embedder import Scoring
from idemvox.encoders.base import Encoder
from idemvox.errors import CorpusError
from idemvox.frameworks.parts.projector import Projector
from idemvox.ranks import gather

__all__ = ["Framework", "Paired", "Pairs", "Projected", "require_classes"]


class Framework(nn.Module):
    """An encoder with a method's heads and loss.

    A subclass defines ``Options``, a frozen dataclass with the paper's numbers as defaults.
    """

    Options: ClassVar[type[Any]]
    supervised: ClassVar[bool] = False
    """Whether batches have class numbers. A framework never gets any other label."""

    partly: ClassVar[bool] = False
    """Whether a supervised framework accepts utterances without a class, whose number is -1."""

    tiny: ClassVar[Mapping[str, Any]] = {}
    """Options that make the framework small enough to train in a test."""

    against_collapse: ClassVar[str] = "a larger training.batch, more training.warmup_epochs"
    """What helps if all embeddings become alike; the message that ends such a run says it."""

    partnered: ClassVar[frozenset[str]] = frozenset({"positive"})
    """The views that a sampler of views cuts from the partner of an utterance."""

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        """Add the heads to an encoder.

        Args:
            encoder: the encoder to train.
            options: an instance of :attr:`Options`; default: ``Options()``.
            classes: number of classes; 0 unless the framework is supervised.
        """
        super().__init__()
        self.encoder = encoder
        self.options = self.Options() if options is None else options

    def expect(self, utterances: int) -> None:
        """Allocate what is stored for each of N utterances; called once, before anything is loaded."""

    def views(self) -> Views:
        """Return the crops that :meth:`forward` reads, by name."""
        raise NotImplementedError

    def balance(self) -> Balance | None:
        """Return how batches are balanced by class, for supervised frameworks; ``None``: they are not."""
        return None

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        """Return the loss of a batch; called once per batch."""
        raise NotImplementedError

    @property
    def embedding_dim(self) -> int:
        """Width D of the targets that the positive sampler gets."""
        return self.encoder.dim

    @property
    def embedder(self) -> Encoder:
        """The encoder that is evaluated, clustered, exported and stored in the model."""
        return self.encoder

    @property
    def scoring(self) -> Scoring:
        """How to compare two representations, as the loss does; stored in the model."""
        return "cosine"

    def target(self, batch: Batch) -> Tensor:
        """Return the targets (B, D) of a batch, as a sampler stores them; used in the fill pass.

        Raises:
            NotImplementedError: the framework has no positives, as a classifier.
        """
        raise NotImplementedError(f"{type(self).__name__} has no positives to sample")

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights of another model's encoder."""
        self.encoder.load_state_dict(weights)

    def begin_as(self, state: Mapping[str, Tensor]) -> None:
        """Start from the state of a run of the same framework: of its heads, too."""
        self.load_state_dict(state)

    def start_epoch(self, epoch: int) -> None:
        """Prepare an epoch (from 0); all modules are in train mode.

        A resumed run calls this again in the middle of an epoch.
        """

    def after_backward(self, epoch: int) -> None:
        """Change gradients before the optimiser's step, in an epoch (from 0)."""

    def after_step(self, progress: float) -> None:
        """Follow the optimiser's step, for example by moving a teacher.

        Args:
            progress: share of the schedule that is done, with this step: 1 after the last.
        """


def require_classes(who: str, classes: int, least: int = 2, instead: str = "simclr") -> None:
    """Check that there are enough classes.

    Args:
        who: the framework, for the message.
        classes: number of classes.
        least: lowest number that is enough.
        instead: a framework without classes, for the message.

    Raises:
        CorpusError: there are too few.
    """
    if classes < least:
        raise CorpusError(
            f"{who} needs at least {least} classes, but there are {classes}: give a manifest with a speaker "
            f"column, or data.labels=FILE (a table of id and class); or train {instead}, which needs none"
        )


class Pairs(NamedTuple):
    """The embeddings that a loss compares. Rows are the utterances of all ranks, W B of them.

    Attributes:
        query: (W B, D) embeddings of the anchors.
        target: (W B, D) embeddings of their positive views, or of pseudo-positives.
        related: (W B, W B) pairs to exclude from the negatives; ``None`` excludes none.
        swap: result of the positive sampler, for the :class:`~idemvox.batch.Step`.
    """

    query: Tensor
    target: Tensor
    related: Tensor | None
    swap: Swap


class Paired(Framework):
    """A framework with two views of each utterance: an anchor, and the positive that should match it.

    A subclass computes its loss from :meth:`embed`. Its options have ``seconds``, the length of a crop. With
    a projector, it overrides :meth:`project`, and :attr:`embedding_dim` with the projector's width.
    """

    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2}

    disjoint: ClassVar[bool] = True
    """Whether the two crops never overlap."""

    def views(self) -> Views:
        crop = Crop(1, self.options.seconds, disjoint=self.disjoint)
        return {"anchor": crop, "positive": crop}

    def project(self, representation: Tensor) -> Tensor:
        """Return the embeddings (B, D) of representations (B, dim): by default unchanged."""
        return representation

    def target(self, batch: Batch) -> Tensor:
        return self.project(self.encoder(batch.views["positive"][:, 0]))

    def embed(self, batch: Batch, positives: Sampler) -> Pairs:
        """Embed both views of a batch, let the sampler replace targets, and gather the rows of all ranks."""
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
