"""The corpora of the example: what they hold, and what they say when they cannot be had."""

from __future__ import annotations

import bz2
import gzip
import json
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llm_corpora
import make_sample
import pytest
from llm_corpora import CorpusError, check_spec, load_corpus
from wikidata_dump import read_statements


def item(identifier: str, label: str, **claims: tuple[str, Any]) -> dict[str, Any]:
    """Build an entity whose claims are pairs of a datavalue type and a value."""
    return {
        "type": "item",
        "id": identifier,
        "labels": {"en": {"language": "en", "value": label}},
        "descriptions": {},
        "claims": {
            property_id: [
                {
                    "mainsnak": {
                        "snaktype": "value",
                        "property": property_id,
                        "datavalue": {"type": kind, "value": value},
                    },
                    "rank": "normal",
                }
            ]
            for property_id, (kind, value) in claims.items()
        },
    }


def reference(identifier: str) -> tuple[str, Any]:
    return ("wikibase-entityid", {"entity-type": "item", "id": identifier})


FRANCE = item("Q1", "France", P36=reference("Q2"), P1082=("quantity", {"amount": "+68000000", "unit": "1"}))
PARIS = item("Q2", "Paris", P17=reference("Q1"), P361=reference("Q1"))
SENTENCES = [
    "the capital of France is Paris .",
    "the population of France is 68000000 .",
    "the country of Paris is France .",
    "Paris is part of France .",
]


def array(*entities: dict[str, Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(entity) for entity in entities) + "\n]\n"


def test_the_sample_has_the_layout_of_the_dump() -> None:
    lines = llm_corpora.SAMPLE.read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    body = lines[1:-1]
    assert all(line.endswith(",") for line in body[:-1])
    assert not body[-1].endswith(",")
    entities = [json.loads(line.rstrip(",")) for line in body]
    ids = [entity["id"] for entity in entities]
    assert len(set(ids)) == len(ids) > 300
    for entity in entities:
        assert {"type", "id", "labels", "aliases", "claims"} <= set(entity)
        for property_id, claims in entity["claims"].items():
            assert property_id in ids
            for claim in claims:
                assert claim["mainsnak"]["property"] == property_id
                value = claim["mainsnak"]["datavalue"]["value"]
                assert not isinstance(value, dict) or value.get("id", ids[0]) in ids
    kinds = {
        claim["mainsnak"]["datavalue"]["type"]
        for entity in entities
        for claims in entity["claims"].values()
        for claim in claims
    }
    assert kinds == {"wikibase-entityid", "time", "quantity", "string", "monolingualtext"}


def test_the_sample_is_what_its_tables_give_and_says_that_it_is_one() -> None:
    text = llm_corpora.SAMPLE.read_text(encoding="utf-8")
    assert text == make_sample.dump(make_sample.build())
    assert "a sample written for" in text[:400]
    assert len(text.encode()) < 400_000


def test_no_thing_stands_twice_in_the_tables() -> None:
    names = [name for name, _, _ in make_sample.things()]
    assert sorted(set(names)) == sorted(names)


def test_the_default_corpus_speaks_english() -> None:
    corpus = load_corpus("wikidata")
    everything = {*corpus.train, *corpus.valid, *corpus.test}
    assert {
        "the capital of France is Paris .",
        "the length of Danube is 2850 kilometre .",
        "the date of birth of Marie Curie is 7 November 1867 .",
        "the date of death of Aristotle is 322 BC .",
        "Ada is named after Ada Lovelace .",
    } <= everything
    assert not any("Österreich" in line for line in everything)
    assert "sample" in corpus.note


def test_loading_twice_gives_the_same_split() -> None:
    first, second = load_corpus("wikidata"), load_corpus("wikidata")
    assert first == second
    assert first.reference == second.reference
    assert len(first.train) > 7 * len(first.valid)


@pytest.mark.parametrize(
    "pack", [str.encode, lambda t: gzip.compress(t.encode()), lambda t: bz2.compress(t.encode())]
)
@pytest.mark.parametrize(
    "text",
    [array(FRANCE, PARIS), f"{json.dumps(FRANCE)}\n{json.dumps(PARIS)}\n", json.dumps([FRANCE, PARIS])],
    ids=["array", "lines", "one-line"],
)
def test_a_dump_is_read_in_every_packing_and_layout(
    tmp_path: Path, pack: Callable[[str], bytes], text: str
) -> None:
    path = tmp_path / "part"
    path.write_bytes(pack(text))
    assert read_statements(path) == SENTENCES


def test_malformed_lines_are_counted_and_skipped_with_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    path.write_text(
        f'[\n{{"id": broken,\n{json.dumps(FRANCE)},\n17,\n{json.dumps(PARIS)},\n{{"id": "Q3", "la\n'
    )
    with pytest.warns(UserWarning, match="3 of 5 lines are no entities") as told:
        assert read_statements(path) == SENTENCES
    assert len(told) == 1


def test_a_compressed_part_that_was_cut_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "part.json.gz"
    noise = [item(f"Q{number}", f"thing {number * 7919}") for number in range(3, 3000)]
    whole = gzip.compress(array(FRANCE, PARIS, *noise).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="cut off"):
        assert read_statements(path) == SENTENCES


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    path.write_text(array(PARIS, FRANCE) + "this line is never read\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_statements(path, limit=4) == [*SENTENCES[2:], *SENTENCES[:2]]


@pytest.mark.parametrize(
    "claim",
    [
        {"P36": ("wikibase-entityid", {})},
        {"P36": reference("Q404")},
        {"P999999": ("string", "of a property without a label")},
        {"P569": ("time", {"time": "nonsense", "precision": 11})},
        {"P569": ("time", {"time": "+1900-00-00T00:00:00Z", "precision": 7})},
        {"P1705": ("monolingualtext", {"text": "Frankreich", "language": "de"})},
        {"P1082": ("quantity", None)},
        {"P625": ("globecoordinate", {"latitude": 1})},
    ],
)
def test_what_is_no_english_statement_is_left_out_without_harm(
    tmp_path: Path, claim: dict[str, tuple[str, Any]]
) -> None:
    path = tmp_path / "part.json"
    path.write_text(array(FRANCE, PARIS, item("Q3", "other", **claim)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_statements(path) == SENTENCES


def test_labels_of_the_file_win_over_the_common_ones(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    seat = {
        "type": "property",
        "id": "P36",
        "labels": {"en": {"language": "en", "value": "seat"}},
        "claims": [],
    }
    path.write_text(array(FRANCE, PARIS, seat))
    assert "the seat of France is Paris ." in read_statements(path)


def test_a_file_that_is_no_dump_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("{}\n")
    with (
        pytest.warns(UserWarning, match="1 of 1 lines"),
        pytest.raises(CorpusError, match="no English statement"),
    ):
        load_corpus(f"wikidata:{path}")


def test_a_text_file_is_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("".join(f"line {number}\n\n" for number in range(20)), encoding="utf-8")
    corpus = load_corpus(f"text:{path}")
    assert [line.strip() for line in corpus.valid] == ["line 8", "line 18"]
    assert [line.strip() for line in corpus.test] == ["line 9", "line 19"]
    assert len(corpus.train) == 16


def test_the_text_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "b.md").write_text("second\n")
    (tmp_path / "a.txt").write_text("first\n")
    (tmp_path / "deeper" / "c.txt").write_text("third\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert [line.strip() for line in load_corpus(f"text:{tmp_path}").train] == ["first", "second", "third"]


def test_a_folder_without_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no text files"):
        load_corpus(f"text:{tmp_path}")


def test_the_documentation_of_python_is_a_larger_corpus() -> None:
    pytest.importorskip("pydoc_data.topics")
    assert len(load_corpus("python-docs").train) > 3000


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("wikipedia", "unknown corpus 'wikipedia'; expected one of: wikidata"),
        ("text", "text:PATH"),
        ("text:/nowhere/at/all", "does not exist"),
        ("wikidata:/nowhere/at/all", "does not exist"),
        ("python-docs:here", "takes no path"),
    ],
)
def test_a_wrong_spec_is_told_before_anything_is_read(spec: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        check_spec(spec)


def test_wikitext_comes_from_the_datasets_library_with_its_own_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, name: str) -> dict[str, list[dict[str, str]]]:
        assert (path, name) == ("Salesforce/wikitext", "wikitext-2-raw-v1")
        return {part: [{"text": f" {part} \n"}, {"text": "\n"}] for part in ("train", "validation", "test")}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    corpus = load_corpus("wikitext-2")
    assert (corpus.train, corpus.valid, corpus.test) == ([" train \n"], [" validation \n"], [" test \n"])


def test_wikitext_without_the_library_names_the_other_corpora(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r"pip install datasets.*python-docs"):
        load_corpus("wikitext-2")


def test_wikitext_without_the_network_names_the_other_corpora(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, name: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(CorpusError, match=r"no route to host.*python-docs"):
        load_corpus("wikitext-2")
