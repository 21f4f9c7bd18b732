from __future__ import annotations

from dataclasses import replace

import pandas as pd
from views.view_fixtures import EVIL

from cytosae.report import Pictures, render
from cytosae.views.patients.validation_view import verdict_of


def test_the_verdict_says_first_what_speaks_against_it(validation_view):
    verdict = validation_view.head.verdict
    look, finding = (
        verdict.index("A second look is no validation: 3 of these patients"),
        verdict.index("it is not shown"),
    )
    assert look < finding < verdict.index("cross-validation promised 0.97")
    assert "first on 2026-05-04" in verdict
    assert any("the colour of the images alone (0.60)" in warning for warning in validation_view.head.warnings)
    assert any("1 of 12 later patients lie outside" in warning for warning in validation_view.head.warnings)


def test_the_verdict_says_when_less_is_kept_than_was_promised(validated, classified):
    rows = validated.rows.assign(auroc=0.75, auroc_low=0.6, auroc_high=0.9)
    assert "less well than promised: AUROC 0.75 (0.60 to 0.90)" in verdict_of(replace(validated, rows=rows), classified)
    rows = rows.assign(auroc_high=0.99)
    assert "less well" not in verdict_of(replace(validated, rows=rows), classified)


def test_a_painted_out_cell_that_does_as_well_is_said_before_the_finding(validated, classified):
    name = validated.recommended.replace("concepts", "cell painted out")
    painted = validated.rows.iloc[[1]].assign(model=name, family="control")
    of_table = classified.table.iloc[[0]].assign(model=name, family="control")
    found = replace(validated, rows=pd.concat([validated.rows, painted]))
    table = pd.concat([classified.table, of_table])
    assert verdict_of(found, replace(classified, table=table)).startswith("The decision may not be about the cells")


def test_the_page_shows_promised_beside_kept_and_folds_the_rest(validation_view, shared):
    html = render(validation_view, Pictures([shared.dataset.cells]))
    assert (
        html.index("Promised and kept")
        < html.index("AUROC promised")
        < html.index("All models")
        < html.index("Decision curve")
    )
    assert EVIL not in html
    assert "order of imaging alone" in html
