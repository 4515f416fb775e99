"""Certificates: every number is recomputed, and every kind of tampering is found."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from torch import nn

from idemvox.errors import IdemvoxError
from idemvox.files import file_hash, read_json, write_json
from idemvox.model import Model
from idemvox.verification import certificate as certificates
from idemvox.verification.bootstrap import eer_interval
from idemvox.verification.calibrate import fit_calibration
from idemvox.verification.calibration import save_calibration
from idemvox.verification.certificate import check_certificate, write_certificate
from idemvox.verification.drawing import make_trials
from idemvox.verification.embed import SPEECH
from idemvox.verification.evaluation import Scored
from idemvox.verification.llr import cllr, min_cllr
from idemvox.verification.metrics import Costs, act_dcf, eer, min_dcf
from idemvox.verification.trials import save_trials

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def scored(corpus, tmp_path):
    """Scores of a made-up model in a run folder."""
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    write_json(folder / "model.json", {"format": 2, "scoring": "cosine", "provenance": {"recipe": "tiny"}})
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder.parent / "recipe.yaml").write_text("name: tiny\n")
    trials = make_trials(corpus, "any")
    scores = np.random.default_rng(0).normal(size=len(trials)).astype(np.float32) + trials.labels
    speakers = {u.id: u.speaker for u in corpus}
    return Scored(
        Model(nn.Identity(), "cosine", {}, folder), trials, scores, speakers, "cosine of whole utterances"
    )


@pytest.fixture
def folder(scored, tmp_path):
    write_certificate(tmp_path / "c", scored, draws=20, seed=5, command="idemvox evaluate x")
    return tmp_path / "c"


def change(folder, edit, sealed=True):
    """Edit the certificate; ``sealed`` also recomputes its hash, as an informed forger would."""
    values = read_json(folder / "certificate.json")
    edit(values)
    if sealed:
        values["seal"] = certificates._seal({k: v for k, v in values.items() if k != "seal"})
    write_json(folder / "certificate.json", values)


def test_it_contains_the_metrics_and_the_evidence(scored, folder):
    values = read_json(folder / "certificate.json")
    s, x = scored.scores, scored.trials.labels
    interval = eer_interval(s, x, *scored.sides, draws=20, seed=5)
    metrics = values["metrics"]
    assert metrics["EER"] == {"value": eer(s, x).value, "low": interval.low, "high": interval.high}
    assert metrics["EER threshold"]["value"] == eer(s, x).threshold
    assert metrics["EER hull"]["value"] == eer(s, x, "hull").value
    assert metrics["minDCF p=0.01"]["value"] == min_dcf(s, x, 0.01)
    assert metrics["minDCF p=0.01"]["low"] <= metrics["minDCF p=0.01"]["high"]
    assert metrics["minCllr"]["value"] == min_cllr(s, x)
    assert metrics["targets"]["value"] == scored.trials.targets
    assert values["trials"]["name"] == "any" and values["model"]["recipe"] == "name: tiny\n"
    assert set(values["model"]["sha256"]) == {"model.json", "model.safetensors"}
    assert values["bootstrap"] == {"draws": 20, "seed": 5} and values["costs"] == [[0.01, 1, 1], [0.05, 1, 1]]
    assert {"python", "torch", "numpy", "pyarrow"} <= set(values["versions"])
    assert "interval" in values["conventions"] and values["scoring"] == "cosine of whole utterances"


def test_an_unchanged_certificate_is_valid(scored, folder, tmp_path):
    save_trials(scored.trials, tmp_path / "list.txt")
    assert check_certificate(folder) == []
    assert check_certificate(folder, scored.model.folder.parent, tmp_path / "list.txt") == []
    assert check_certificate(folder, scored.model.folder) == []


def test_a_changed_score_is_found_even_if_all_hashes_are_recomputed(scored, folder, tmp_path):
    table = pq.read_table(folder / "scores.parquet")
    scores = table["score"].to_numpy().copy()
    target = int(np.flatnonzero(scored.trials.labels)[np.argmin(scores[scored.trials.labels])])
    scores[target] = 9  # the worst target becomes the best
    table = table.set_column(table.column_names.index("score"), "score", [scores])
    pq.write_table(table, folder / "scores.parquet")
    found = check_certificate(folder)
    assert found[0] == "scores.parquet was changed after it was written"
    sha256 = file_hash(folder / "scores.parquet")
    change(folder, lambda values: values["scores"].update(sha256=sha256))
    found = check_certificate(folder)
    assert any(problem.startswith("EER is stated as") for problem in found)
    assert not any("changed" in problem for problem in found)
    assert scored.scores[target] != 9


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("name", "part"), [("EER", "value"), ("EER", "low"), ("minDCF p=0.05", "high"), ("minCllr", "value")]
)
def test_a_changed_metric_is_reported(folder, name, part, sealed):
    change(folder, lambda values: values["metrics"][name].update({part: 0.0123}), sealed)
    found = check_certificate(folder)
    shown = name if part == "value" else f"{name} ({part})"
    assert any(problem.startswith(f"{shown} is stated as 0.0123; the scores give 0.") for problem in found)
    assert len(found) == (1 if sealed else 2)


def test_metrics_left_out_or_made_up_are_found(folder):
    change(folder, lambda values: values["metrics"].pop("minCllr"))
    change(folder, lambda values: values["metrics"].update(accuracy={"value": 1.0}))
    missing, added = check_certificate(folder)
    assert missing.startswith("minCllr is missing") and added == "accuracy is stated but cannot be computed"


@pytest.mark.parametrize("key", ["recipe", "scoring", "command", "conventions"])
def test_a_changed_word_is_found(folder, key):
    change(folder, lambda values: values.update({key: "another"}), sealed=False)
    assert check_certificate(folder) == ["certificate.json was changed after it was written"]


def test_another_seed_of_the_bootstrap_is_found(folder):
    change(folder, lambda values: values["bootstrap"].update(seed=6))
    found = check_certificate(folder)
    assert found and all("(low)" in problem or "(high)" in problem for problem in found)


def test_another_trial_list_is_found(scored, folder, tmp_path):
    save_trials(scored.trials, tmp_path / "list.txt")
    lines = (tmp_path / "list.txt").read_text().splitlines()
    (tmp_path / "cleaned.txt").write_text("\n".join(lines[1:]) + "\n")
    (found,) = check_certificate(folder, trials=tmp_path / "cleaned.txt")
    assert "is about other trials ('any')" in found and "cleaned" in found
    change(folder, lambda values: values["trials"].update(sha256="0" * 64))
    assert check_certificate(folder) == ["the trials in scores.parquet are not those of 'any' (hash)"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "backend.npz"])
def test_another_model_is_found(scored, folder, tmp_path, name):
    other = shutil.copytree(scored.model.folder, tmp_path / "other")
    (other / name).write_bytes(b"other")
    (found,) = check_certificate(folder, other)
    assert f"another model than {other}: {name} differs" in found


def test_a_calibrated_model_is_certified_by_its_log_likelihood_ratios(scored, tmp_path):
    s, x = scored.scores, scored.trials.labels
    calibration = fit_calibration(s, x, scoring="cosine", trials="other calls")
    save_calibration(scored.model.folder, calibration)
    write_certificate(tmp_path / "c", scored, draws=5, costs=[Costs(0.5), Costs(0.2, 10, 1)])
    metrics = read_json(tmp_path / "c" / "certificate.json")["metrics"]
    llrs = calibration.llr(s)
    assert metrics["Cllr"]["value"] == pytest.approx(cllr(llrs, x), abs=1e-12)
    assert metrics["actDCF p=0.2 c_miss=10 c_fa=1"]["value"] == act_dcf(llrs, x, 0.2, 10)
    assert metrics["minDCF p=0.5"]["value"] <= metrics["actDCF p=0.5"]["value"]
    assert check_certificate(tmp_path / "c") == []
    change(tmp_path / "c", lambda values: values["calibration"].update(offset=7.0))
    assert any(problem.startswith("Cllr is stated as") for problem in check_certificate(tmp_path / "c"))


@pytest.mark.parametrize(("of", "fits"), [("10 crops of 4 s", False), (SPEECH, True)])
def test_a_calibration_is_for_speech_and_whole_utterances_and_not_for_crops(scored, tmp_path, of, fits):
    s, x = scored.scores, scored.trials.labels
    save_calibration(scored.model.folder, fit_calibration(s, x, scoring="cosine", trials="other calls"))
    crops = Scored(scored.model, scored.trials, s, scored.speakers, f"cosine of {of}")
    write_certificate(tmp_path / "c", crops, draws=5)
    assert ("Cllr" in read_json(tmp_path / "c" / "certificate.json")["metrics"]) == fits
    assert check_certificate(tmp_path / "c") == []


def test_without_speakers_there_are_no_intervals(scored, tmp_path):
    unknown = Scored(scored.model, scored.trials, scored.scores, {}, scored.scoring)
    write_certificate(tmp_path / "c", unknown)
    values = read_json(tmp_path / "c" / "certificate.json")
    assert values["bootstrap"] is None and set(values["metrics"]["EER"]) == {"value"}
    assert "enrol_speaker" not in pq.read_table(tmp_path / "c" / "scores.parquet").column_names
    assert check_certificate(tmp_path / "c") == []


def test_damaged_or_other_files_are_refused(scored, folder, tmp_path):
    with pytest.raises(IdemvoxError, match=r"holds no certificate\.json"):
        check_certificate(tmp_path)
    good = (folder / "certificate.json").read_text()
    for text, says in (("{", "not valid JSON"), ("[]", "newest idemvox"), ('{"format": 1}', "damaged")):
        (folder / "certificate.json").write_text(text)
        with pytest.raises(IdemvoxError, match=says):
            check_certificate(folder)
    (folder / "certificate.json").write_text(good)
    (folder / "scores.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(IdemvoxError, match=r"cannot read .*scores\.parquet"):
        check_certificate(folder)
    (folder / "scores.parquet").unlink()
    with pytest.raises(IdemvoxError, match=r"cannot read .*scores\.parquet"):
        check_certificate(folder)
    assert json.loads(good)["format"] == 1


def test_a_missing_package_names_the_extra(scored, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(IdemvoxError, match=r"idemvox\[report\]"):
        write_certificate(tmp_path / "c", scored)
