"""What a run logs, and how right the pseudo-positives are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from idemvox.batch import Swap
from idemvox.training.watch.gauges import Log, PositiveGauge

SPEAKERS = np.array([0, 0, 0, 1, 1, -1], np.int32)
RECORDINGS = np.array([0, 0, 1, 2, -1, 3], np.int32)  # numbered by speaker and recording


def swap(chosen: torch.Tensor, replaced: torch.Tensor | None = None) -> Swap:
    return Swap(torch.zeros(len(chosen), 1), chosen >= 0 if replaced is None else replaced, chosen)


def test_shares_of_those_replaced():
    gauge = PositiveGauge(SPEAKERS, RECORDINGS)
    gauge.update(torch.tensor([0, 1, 2]), swap(torch.tensor([1, 3, -1])))  # right, wrong, kept
    gauge.update(torch.tensor([0]), swap(torch.tensor([2])))  # same speaker, another recording
    found = gauge.result()
    assert found == {
        "coverage": pytest.approx(3 / 4),
        "speaker_accuracy": pytest.approx(2 / 3),
        "recording_accuracy": pytest.approx(1 / 3),  # recording 1 of another speaker is another recording
    }
    assert all(type(v) is float for v in found.values())  # a numpy number in a checkpoint cannot be read back


def test_what_is_no_utterances_counts_as_replaced_and_for_no_accuracy():
    gauge = PositiveGauge(SPEAKERS, RECORDINGS)
    gauge.update(torch.arange(4), swap(torch.tensor([-1, -1, 1, -1]), torch.tensor([1, 1, 1, 0]) > 0))
    found = gauge.result()
    assert found["coverage"] == 3 / 4 and found["speaker_accuracy"] == 1.0


def test_unknown_labels_do_not_count():
    gauge = PositiveGauge(SPEAKERS, RECORDINGS)
    gauge.update(torch.tensor([5, 0, 3]), swap(torch.tensor([0, 5, 4])))
    found = gauge.result()
    assert found["coverage"] == 1.0 and found["speaker_accuracy"] == 1.0
    assert found["recording_accuracy"] == 0.0  # 5 has no speaker but a recording: not that of 0; 4 has none


def test_partners_are_counted_for_an_epoch():
    """5 of 6 views are cut from another utterance; of 4 pairs whose speakers are known 3 are right."""
    gauge = PositiveGauge(SPEAKERS, RECORDINGS)
    assert gauge.partners(np.array([1, 2, 3, 4, 4, 0])) == {
        "coverage": pytest.approx(5 / 6),
        "speaker_accuracy": pytest.approx(3 / 4),
        "recording_accuracy": pytest.approx(1 / 4),  # 0 and 1, of 0-1, 1-2, 2-3 and 5-0
    }
    assert gauge.partners(None) == {} == gauge.result()
    gauge.update(torch.arange(6), Swap(torch.zeros(6, 1)))  # such a sampler's step
    assert gauge.result() == {}


def test_starts_anew_after_each_result():
    gauge = PositiveGauge(SPEAKERS, RECORDINGS)
    gauge.update(torch.tensor([0]), swap(torch.tensor([3])))
    assert gauge.result()["speaker_accuracy"] == 0.0
    assert gauge.result() == {}
    gauge.update(torch.tensor([0]), swap(torch.tensor([-1])))
    assert gauge.result() == {"coverage": 0.0}


def test_clusters_where_labels_are_known():
    found = PositiveGauge(SPEAKERS, RECORDINGS).clusters(torch.tensor([0, 0, 0, 0, 1, 1]))
    assert found == {
        "cluster_purity": pytest.approx(4 / 5),
        "cluster_speaker_pairs": pytest.approx(3 / 6),  # of 0 to 3; speaker 5 is unknown
        "cluster_recording_pairs": pytest.approx(1 / 6),
    }
    unknown = np.full(6, -1, np.int32)
    assert PositiveGauge(unknown, unknown).clusters(torch.zeros(6, dtype=torch.int64)) == {}
    assert PositiveGauge(SPEAKERS, RECORDINGS).clusters(None) == {}


def test_without_labels_only_coverage():
    gauge = PositiveGauge(np.full(6, -1, np.int32), np.full(6, -1, np.int32))
    gauge.update(torch.tensor([0, 1]), swap(torch.tensor([1, -1])))
    assert gauge.result() == {"coverage": 0.5}


def test_the_log_is_a_line_of_json_an_event(tmp_path):
    for step in (3, 4):  # a run that goes on appends
        log = Log(tmp_path, step)
        log.write("step", step, loss=0.5, note="x")
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(v["event"], v["step"], v["loss"], v["note"]) for v in lines] == [
        ("step", 3, 0.5, "x"),
        ("step", 4, 0.5, "x"),
    ]
    assert list((tmp_path / "tensorboard").iterdir())
