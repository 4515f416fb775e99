"""Fitting by expectation-maximisation: i-vectors."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import torch

from idemvox.corpus.corpus import open_corpus
from idemvox.devices import device_named
from idemvox.encoders.ivector import IVector
from idemvox.errors import RecipeError
from idemvox.model import build_encoder
from idemvox.progress import progress_bar
from idemvox.ranks import world
from idemvox.recipe import Recipe
from idemvox.registry import FITTERS
from idemvox.training.em.ivector import Speech, em_iteration, fit_ubm, sized
from idemvox.training.fitters.base import Hooks, Trained
from idemvox.training.state.checkpoint import read_newest, save_checkpoint
from idemvox.training.state.provenance import epochs_behind, save_trained
from idemvox.training.watch.gauges import Log

__all__ = ["ExpectationMaximisation"]

USED = (
    *("name", "description", "published", "seed", "data.manifest", "frontend", "encoder"),
    *("training.epochs", "training.device", "training.workers", "training.keep"),
)
"""The recipe keys that it uses."""


@FITTERS.register("em")
class ExpectationMaximisation:
    """Fits i-vectors to unlabelled speech: the mixture, then the total variability.

    ``training.epochs`` are the iterations of EM for the total variability. The mixture, and then each
    iteration, writes a checkpoint. The run's numbers are the ``log_likelihood`` of a frame under the mixture
    and the ``gain``, its increase by the total variability as of the last iteration, both in nats.
    """

    def fit(self, recipe: Recipe, folder: Path, *, resume: bool, progress: bool, hooks: Hooks) -> Trained:
        """Implement :class:`~idemvox.training.fitters.base.Fitter`, in one process.

        Raises:
            RecipeError: the recipe sets keys that are not used here, or the corpus is too small.
        """
        if world() > 1:
            raise RecipeError("i-vectors are fitted in one process: leave --devices out")
        unused = [key for key in recipe.differences(Recipe()) if not key.startswith(USED)]
        if unused:
            raise RecipeError(
                "i-vectors are fitted by EM to whole clean utterances; these settings are not used, "
                f"leave them out: {', '.join(unused)}"
            )
        corpus = open_corpus(recipe.data.corpora)
        source = corpus.source
        torch.manual_seed(recipe.seed)
        part = sized(recipe.encoder, source)
        encoder = build_encoder(part, recipe.frontend).to(device_named(recipe.training.device)).eval()
        assert isinstance(encoder, IVector)
        recipe.save(folder / "recipe.yaml")
        checkpoints, keep, epochs = folder / "checkpoints", recipe.training.keep, recipe.training.epochs
        state = read_newest(checkpoints, {"encoder", "done", "numbers"}) if resume else {}
        if state and state["done"] >= epochs and epochs_behind(folder / "model") == state["done"]:
            return Trained(folder, folder / "model", state["done"], state["numbers"])
        before = encoder.options.mixture_iterations * (1 + (encoder.options.covariance == "full"))
        step = before + state["done"] if state else 0
        with torch.no_grad(), progress_bar(progress) as bar, closing(Log(folder, step)) as log:
            speech = Speech(encoder, source, recipe.training.workers, bar)
            if state:
                encoder.load_state_dict(state["encoder"])
            else:
                value = fit_ubm(encoder, speech, recipe.seed, log)
                state = {"encoder": encoder.state_dict(), "done": 0, "numbers": {"log_likelihood": value}}
                save_checkpoint(checkpoints, 0, state, keep)
            while state["done"] < epochs:
                gain = em_iteration(encoder, speech.statistics(f"{recipe.name} {state['done'] + 1}/{epochs}"))
                numbers = {**state["numbers"], "gain": gain}
                state = {"encoder": encoder.state_dict(), "done": state["done"] + 1, "numbers": numbers}
                log.write("epoch", before + state["done"] - 1, at=state["done"], **numbers)
                save_checkpoint(checkpoints, state["done"], state, keep)
        save_trained(
            folder / "model",
            encoder,
            recipe.model_copy(update={"encoder": part}),
            scoring="cosine",
            epochs=state["done"],
            utterances=len(source),
            corpora=dict(corpus.parts),
        )
        return Trained(folder, folder / "model", state["done"], state["numbers"])
