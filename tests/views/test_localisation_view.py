from __future__ import annotations

import pandas as pd

from cytosae.cells import read_cells
from cytosae.views.datasets.localisation_view import SOURCE_COLUMN, sentence, view_of_localisation


def rows(latent: tuple[float, float, float], neuron: tuple[float, float, float], gain_low: float = 0.1) -> pd.DataFrame:
    def row(family, values):
        iou, low, high = values
        return {"family": family, "unit": 7, "iou": iou, "low": low, "high": high, "chance": 0.2, "gain_low": gain_low}

    return pd.DataFrame([row("SAE latent", latent), row("backbone neuron", neuron)])


def test_a_neuron_that_wins_is_named_as_the_winner():
    text = sentence(rows((0.55, 0.53, 0.57), (0.70, 0.68, 0.72)), "nucleus")
    assert text.startswith(
        "A single SAE latent does not win for the nucleus: the best raw backbone neuron reaches IoU 0.70"
    )
    assert "a clear difference" in text
    assert "beats chance" in text


def test_overlapping_intervals_are_no_clear_difference():
    text = sentence(rows((0.69, 0.66, 0.72), (0.70, 0.68, 0.72)), "nucleus")
    assert "within the intervals of each other" in text
    text = sentence(rows((0.71, 0.68, 0.74), (0.70, 0.68, 0.72)), "nucleus")
    assert "best marked by a single SAE latent" in text
    assert "ahead, within the intervals" in text


def test_a_latent_at_chance_is_said_to_be_at_chance():
    assert "not shown to follow the cell" in sentence(rows((0.2, 0.1, 0.3), (0.7, 0.6, 0.8), -0.01), "cytoplasm")


def test_view_has_a_sentence_for_each_structure_and_figures_by_data_set(localised, datasets):
    view = view_of_localisation(localised, datasets)
    assert len(view.sentences) == len(view.plot.panels) == len(view.examples) == 2
    assert {"first", "second"} <= {column.words for column in view.by_dataset.columns}
    latent = view.plot.panels[0].rows[0]
    assert latent.number.low <= latent.number.value <= latent.number.high
    assert latent.control is not None


def test_words_follow_where_the_masks_come_from(localised, datasets):
    def captions(**sources):
        for opened in datasets:
            opened.cells.frame[SOURCE_COLUMN] = sources.get(opened.name)
        try:
            return {row.words for row in view_of_localisation(localised, datasets).examples}
        finally:
            for opened in datasets:
                del opened.cells.frame[SOURCE_COLUMN]

    came = "by the masks that came with the images"
    assert captions() == {came}
    assert captions(first="drawn", second="drawn") == {"as it was drawn, image and mask from one drawing"}
    assert captions(first="drawn") == {f"as it was drawn, image and mask from one drawing and {came}"}
    assert captions(first="outlined by A. B.", second="outlined by A. B.") == {
        f"{came}, by their table: outlined by A. B."
    }


def test_drawn_cells_say_that_their_masks_were_drawn(smear):
    assert set(read_cells(smear).frame[SOURCE_COLUMN]) == {"drawn"}
