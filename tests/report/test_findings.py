from __future__ import annotations

import pandas as pd

from cytosae.report.findings import localisation_view, sentence


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
    view = localisation_view(localised, datasets[1], datasets[0])
    assert len(view.sentences) == 2
    assert view.plot.startswith("data:image/svg+xml;base64,")
    assert {"first", "second"} <= set(view.by_dataset[0])
