"""The demo's two sizes; tests/packaging runs the small one as a stranger would."""

from __future__ import annotations

from cytosae.cli import main
from cytosae.cli.demonstration import QUICK, WHOLE
from cytosae.common.configuration import replace_from_plain
from cytosae.pipeline import StudyConfig


def test_the_cells_of_one_size_are_not_taken_for_those_of_the_other(tmp_path, capfd):
    images = QUICK.draw(tmp_path / "smear")
    before = (images / "manifest.csv").stat().st_mtime_ns
    assert QUICK.draw(images) == images
    assert (images / "manifest.csv").stat().st_mtime_ns == before  # not drawn again
    assert main(["demo", "--study", str(tmp_path)]) == 2
    assert "smear holds 8 drawn patients, and this demo has 40; name another --study." in capfd.readouterr().err


def test_the_quick_demo_does_every_step_with_less_of_everything():
    whole, quick = (replace_from_plain(StudyConfig(), size.changes) for size in (WHOLE, QUICK))
    assert WHOLE.folder != QUICK.folder
    assert quick.cohort.classification.folds <= QUICK.patients // len(QUICK.diagnoses)
    for config in (whole, quick):  # no control is left out to be quick
        cohort = config.cohort
        assert all((cohort.retest_cells, cohort.painted_cells, cohort.stability, cohort.pages))
        assert all((cohort.classification.shuffles, cohort.classification.few_concepts))
    assert quick.sae.train.steps < whole.sae.train.steps
