"""Classes from a table: numbers by name, and clear errors for a table of another corpus."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from idemvox.corpus.classes import find_classes, read_classes
from idemvox.corpus.corpus import open_corpus
from idemvox.corpus.packs.pack import pack
from idemvox.errors import IdemvoxError

IDS = ("a", "b", "c", "d")


def table(folder: Path, text: str) -> Path:
    file = folder / "classes.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_classes_are_numbered_by_name(tmp_path):
    file = table(tmp_path, 'weight,class,id\n1,"two, words",d\n1,9,a\n1,zwölf,c\n1,10,b\n')
    found = read_classes(file, IDS)
    assert found.numbers.tolist() == [1, 0, 3, 2] and found.count == 4  # "10" < "9" < "two" < "zwölf"
    assert (found.file, found.sha256) == (file, hashlib.sha256(file.read_bytes()).hexdigest())
    found.require_all("aam", IDS)


def test_missing_utterances_and_empty_classes_have_no_class(tmp_path):
    found = read_classes(table(tmp_path, "\ufeffid,class\nc,x\na,\n"), IDS)
    assert found.numbers.tolist() == [-1, -1, 0, -1] and found.count == 1
    with pytest.raises(IdemvoxError, match=r"aam needs.*classes\.csv has none for 3 \(a, b, d\) of 4;"):
        found.require_all("aam", IDS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"line 1: no columns 'id' and 'class' \(found nothing\); give it the header id,class"),
        ("id,who\na,x\n", r"line 1: no columns .*\(found id, who\)"),
        ("id,class\na,x,y\n", "line 2: 3 fields where the header has 2"),
        ("id,class\na,x\nb,x\na,x\n", "line 4: a second class for 'a'; keep only one"),
        ("id,class\na,x\nz,x\n", r"1 \(z\) of its 2 ids are not among the 4 utterances"),
        ("id,class\n" + "".join(f"{n},x\n" for n in range(9)), r"9 \(0, 1, 2, \.\.\.\) of its 9 ids"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, says):
    with pytest.raises(IdemvoxError, match=says):
        read_classes(table(tmp_path, text), IDS)


def test_unreadable_tables_are_refused(tmp_path):
    with pytest.raises(IdemvoxError, match=r"cannot read data\.labels=.*No such file"):
        read_classes(tmp_path / "none.csv", IDS)
    (tmp_path / "latin.csv").write_bytes("id,class\na,zwölf\n".encode("latin-1"))
    with pytest.raises(IdemvoxError, match="is not CSV in UTF-8"):
        read_classes(tmp_path / "latin.csv", IDS)


def test_a_table_of_speakers_gives_the_manifests_numbers_packed_or_not(corpus, tmp_path):
    rows = "".join(f"{u.id},{u.speaker}\n" for u in reversed(list(corpus.manifest)))
    file = table(tmp_path, "id,class\n" + rows)
    pack(corpus.labelled, tmp_path / "pack", progress=False)
    pack(corpus.unlabelled, tmp_path / "blind", progress=False)
    speakers = find_classes(open_corpus(corpus.labelled), None)
    assert speakers.count == 6 and speakers.file is None and speakers.sha256 is None
    for path in (corpus.labelled, corpus.unlabelled, tmp_path / "pack", tmp_path / "blind"):
        found = find_classes(open_corpus(path), file)
        assert found.numbers.tolist() == speakers.numbers.tolist() and found.count == 6
    nobody = find_classes(open_corpus(corpus.unlabelled), None)
    assert nobody.count == 0 and set(nobody.numbers) == {-1}
    with pytest.raises(IdemvoxError, match=r"the speaker column has none for 24 \(s0r0u0, .*\) of 24"):
        nobody.require_all("aam", open_corpus(corpus.unlabelled).ids)
