"""The card in a model folder says what the folder holds, and nothing of older weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.fast_resnet34 import FastResNet34
from idemvox.model import remove_measured, save_model
from idemvox.recipe import Part
from idemvox.verification.report import Report, store_report

PART = Part(name="fast_resnet34", channels=(4, 8, 8, 8), dim=16)
MADE = {"recipe": "simclr-ssps", "utterances": 1234, "corpora": {"vox": 1234}, "known": [], "epochs": 7}
REPORT = Report("calls", 100, 900, 0.0712, 0.4, 0.51234, 0.4, 0.061, 0.0834)


@pytest.fixture
def folder(tmp_path):
    encoder = FastResNet34(PART.build(FastResNet34.Options, "encoder"), FrontEndSettings())
    save_model(tmp_path, encoder, PART, {}, MADE, scoring="cosine")
    return tmp_path


def card(folder) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_it_names_recipe_data_and_what_is_not_known(folder):
    assert "| recipe | simclr-ssps |" in card(folder) and "| epochs | 7 |" in card(folder)
    assert "Trained on 1,234 utterances. By corpus: vox 1,234. No labels were used" in card(folder)
    assert "channels [4, 8, 8, 8]" in card(folder).replace("(4, 8, 8, 8)", "[4, 8, 8, 8]")
    for missing in ("Not stated", "None yet: `idemvox evaluate`", "not calibrated"):
        assert missing in card(folder)


def test_it_has_the_numbers_of_these_weights_only(folder):
    store_report(folder, REPORT)
    assert "| EER | 7.12 % (95 % interval 6.10 to 8.34) |" in card(folder)
    assert "calls: 100 of one person, 900 of two" in card(folder) and "0.5123" in card(folder)
    store_report(folder, replace(REPORT, eer=0.05, eer_low=None, eer_high=None))
    assert "| EER | 5.00 % |" in card(folder)
    remove_measured(folder)
    assert "None yet" in card(folder) and "EER |" not in card(folder)


def test_labels_and_the_origin_of_imported_weights_are_said(folder):
    encoder = FastResNet34(PART.build(FastResNet34.Options, "encoder"), FrontEndSettings())
    save_model(folder, encoder, PART, {}, {"known": ["speakers", "recordings"]}, scoring="cosine")
    assert "Labels used in training: speakers, recordings." in card(folder)
    assert "knew which utterances come from one recording" in card(folder)
    origin = {"from": "sslsv", "file": "model_avg.pt", "sha256": "ab12", "licence": "MIT"}
    save_model(folder, encoder, PART, {}, {"imported": origin}, scoring="cosine")
    assert "imported from sslsv (`model_avg.pt`, SHA-256 ab12)" in card(folder)
    assert "Of the weights: MIT." in card(folder)
