"""Concepts as a table and as CSV; every figure says what it means."""

from __future__ import annotations

import csv
import html.parser
import io

import numpy as np
import pytest

from cytosae.pipeline import Study


def test_the_table_is_sorted_and_paged_by_the_server(explorer, study_of_smear):
    var = Study(study_of_smear).atlas("smear").var.query("cells_active > 0")
    found = explorer.get("/api/concepts?as=table&sort=selectivity&size=30").json()
    assert found["cards"] == []
    selectivity = var["class_selectivity"].to_numpy()
    expected = np.sort(selectivity[np.isfinite(selectivity)])[::-1][:30]
    column = [fact["value"] for row in found["rows"] for fact in row["facts"] if fact["words"] == "Class selectivity"]
    assert column == pytest.approx(expected.tolist())
    second = explorer.get("/api/concepts?as=table&sort=selectivity&size=30&page=2").json()
    assert {row["latent"] for row in found["rows"]}.isdisjoint(row["latent"] for row in second["rows"])
    page = explorer.get("/concepts?as=table&sort=purity").text
    assert 'aria-sort="ascending"' in page
    assert page.count("<tr><td") == 24


def test_the_csv_holds_all_that_match_in_order(explorer):
    query = "sort=rarity&place=centre"
    shown = explorer.get(f"/api/concepts?{query}&size=120&as=table").json()
    answer = explorer.get(f"/concepts.csv?{query}&page=3")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == shown["total"]
    assert [int(row["latent"]) for row in rows][:120] == [row["latent"] for row in shown["rows"]]
    assert float(rows[0]["activation_frequency"]) == shown["rows"][0]["facts"][0]["value"]
    assert "attachment" in answer.headers["content-disposition"]
    purity = next(fact for fact in shown["rows"][0]["facts"] if fact["words"] == "Label entropy")
    beside = rows[0]["label_entropy_with_random_weights"]
    assert (float(beside) if beside else None) == purity["control"]
    assert any(row["label_entropy_with_random_weights"] for row in rows)
    assert "with random weights, of latents that are as often active" in explorer.get("/concepts?as=table").text


def test_a_name_is_no_formula_in_the_csv(explorer):
    explorer.app.state.library.accepted[5] = "=cmd|' /C calc'!A0"
    try:
        assert "\n5,'=cmd" in explorer.get("/concepts.csv?sort=number").text
    finally:
        explorer.app.state.library.accepted.clear()


def test_bounds_are_typed_in_and_empty_ones_ask_for_nothing(explorer):
    everything = explorer.get("/api/concepts").json()["total"]
    asked = explorer.get("/api/concepts?low_frequency=&high_frequency=&low_activation=&high_activation=")
    assert asked.json()["total"] == everything


class Figures(html.parser.HTMLParser):
    """Labels of figures, those of ``dt`` and of heads of columns and rows of numbers, and whether each has its help."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, bool] = {}
        self._label, self._helped, self._inside = "", False, False

    def handle_starttag(self, tag, attrs):
        classes = (dict(attrs).get("class") or "").split()
        if tag == "dt" or (tag == "th" and {"n", "figure"} & set(classes)):
            self._label, self._helped, self._inside = "", False, True
        self._helped |= "help" in classes

    def handle_endtag(self, tag):
        if tag in ("dt", "th") and self._inside:
            self.found[self._label.strip()] = self._helped
            self._inside = False

    def handle_data(self, data):
        if self._inside and not self._helped:
            self._label += data


@pytest.mark.parametrize(
    "path",
    ["/concepts", "/concepts?as=table", "/concepts/{latent}", "/concepts/{latent}/evidence", "/concepts/{latent}/gaze"],
)
def test_every_figure_has_its_definition_in_place(explorer, study_of_smear, path):
    latent = int(Study(study_of_smear).atlas("smear").var["cells_active"].to_numpy().argmax())
    page = explorer.get(path.format(latent=latent))
    assert page.status_code == 200
    figures = Figures()
    figures.feed(page.text)
    assert len(figures.found) >= 2
    assert [label for label, helped in figures.found.items() if not helped] == []
