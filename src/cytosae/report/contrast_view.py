"""Two groups of patients compared, as shown: plots, sentences, a table and cards of the clearest concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cytosae.cohort.contrasts.contrast import conclusion
from cytosae.cohort.patients.diagnoses import REST
from cytosae.report.cohort_content import CellPictures, ConceptCard, Table, TableRow, between, interval, p_value
from cytosae.report.cohort_figures import diagonal, volcano
from cytosae.report.html import number, percent, whole
from cytosae.report.marks import Marks

UNITS = {"mean": "mean activation", "count": "tokens a cell", "presence": "share of cells"}
"""Units of the kinds of barcodes."""

EFFECT = "Cliff’s delta"
"""Effect that is shown: the share of pairs of patients in which the first is higher, less the reverse."""


@dataclass(frozen=True)
class Comparison:
    """Patients of ``group`` against those of ``against``, latent by latent; made by `comparison`.

    Attributes
    ----------
    group, against : names; effects are > 0 where ``group`` is higher
    kind : of the barcodes
    sizes : patients of each
    table : index latent (int), columns effect, low, high (its interval), p, q (NaN where not tested), group_mean,
        against_mean (barcodes)
    level : q up to which a concept counts as found
    conclusion : what can and what cannot be concluded
    """

    group: str
    against: str
    kind: str
    sizes: tuple[int, int]
    table: pd.DataFrame
    level: float
    conclusion: str

    def specific(self, n: int) -> pd.DataFrame:
        """The ``n`` clearest concepts: smallest p first, ties by size of effect."""
        known = self.table.dropna(subset=["p"])
        order = np.lexsort((-np.abs(known["effect"].to_numpy()), known["p"].to_numpy()))
        return known.iloc[order[:n]]

    @property
    def found(self) -> int:
        """Number of concepts whose q is at most ``level``."""
        return int((self.table["q"] <= self.level).sum())

    def tiles(self) -> list[dict[str, str]]:
        """Numbers for the head of a page."""
        tested = int(self.table["p"].notna().sum())
        return [
            {"value": whole(self.sizes[0]), "label": f"patients with {self.group}"},
            {"value": whole(self.sizes[1]), "label": f"patients with {self.against}"},
            {"value": whole(self.found), "label": f"of {whole(tested)} concepts differ (q ≤ {self.level:g})"},
        ]

    def sentences(self) -> list[str]:
        """What was found, and what cannot be concluded."""
        return [self.conclusion, "The unit of every test is the patient, never the cell."]

    def plots(self, shown: Sequence[int]) -> list[dict[str, Any]]:
        """Volcano and scatter around the diagonal, with the ``shown`` latents ringed."""
        ringed = self.table.index.isin(list(shown)).tolist()
        columns = {name: self.table[name].to_numpy(dtype=float) for name in self.table.columns}
        names = (self.group, self.against)
        return [
            {
                "uri": volcano(
                    columns["effect"], columns["p"], columns["q"], ringed, names=names, label=EFFECT, level=self.level
                ),
                "width": 470,
                "words": f"Every tested concept by {EFFECT} and p. Coloured: q ≤ {self.level:g}. Rings: those below.",
            },
            {
                "uri": diagonal(
                    columns["against_mean"],
                    columns["group_mean"],
                    ringed,
                    names=(self.against, self.group),
                    unit=UNITS[self.kind],
                ),
                "width": 415,
                "words": f"Disease barcodes ({UNITS[self.kind]}): means over patients. On the line: no difference.",
            },
        ]

    def rows(self, shown: pd.DataFrame, pictures: CellPictures, marks: Marks) -> Table:
        """The ``shown`` rows as a table."""
        head = ["Latent", "Mostly on", self.group, self.against, f"{EFFECT} (95 %)", "p", "q", ""]
        rows = []
        for row in _records(shown):
            rows.append(
                TableRow(
                    [
                        str(row["latent"]),
                        pictures.top_class(int(row["latent"])),
                        number(row["group_mean"]),
                        number(row["against_mean"]),
                        interval(row["effect"], row["low"], row["high"]),
                        p_value(row["p"]),
                        p_value(row["q"]),
                        marks.label(int(row["latent"])),
                    ]
                )
            )
        return Table(head, rows, frozenset(range(2, 7)), f"Barcodes: {UNITS[self.kind]}, means over patients.")


def comparison(table: pd.DataFrame) -> Comparison:
    """Prepare what `cytosae.cohort.contrast` returned for a page."""
    facts = table.attrs
    shown = pd.DataFrame(
        {
            "effect": table["cliffs_delta"],
            "low": table["cliffs_delta_low"],
            "high": table["cliffs_delta_high"],
            "p": table["p"],
            "q": table["q"],
            "group_mean": table["mean_a"],
            "against_mean": table["mean_b"],
        }
    )
    shown.index = pd.Index([int(latent) for latent in table.index], name="latent")
    return Comparison(
        group=str(facts["a"]),
        against="the other patients" if facts["b"] == REST else str(facts["b"]),
        kind=str(facts["kind"]),
        sizes=(int(facts["n_a"]), int(facts["n_b"])),
        table=shown,
        level=float(facts["fdr"]),
        conclusion=conclusion(table),
    )


def concept_cards(
    shown: pd.DataFrame, pictures: CellPictures, comparison: Comparison, marks: Marks
) -> list[ConceptCard]:
    """A card with reference cells and maps for every row of a comparison."""
    latents = [int(latent) for latent in shown.index]
    pictures.prepare(dict.fromkeys(latents))
    cards = []
    for rank, (latent, row) in enumerate(zip(latents, _records(shown), strict=True), start=1):
        higher = comparison.group if row["effect"] > 0 else comparison.against
        facts = [
            ("Higher in", higher),
            (EFFECT, interval(row["effect"], np.nan, np.nan)),
            ("… 95 % interval", between(row["low"], row["high"])),
            ("p", p_value(row["p"])),
            ("q", p_value(row["q"])),
            (f"In {comparison.group}", number(row["group_mean"])),
            (f"In {comparison.against}", number(row["against_mean"])),
            ("Cells active", percent(pictures.frequency(latent))),
            *marks.facts(latent),
        ]
        cards.append(
            ConceptCard(
                latent=latent,
                rank=rank,
                headline=pictures.headline(latent),
                facts=facts,
                references=pictures.views(latent),
                dataset=pictures.dataset.name,
                mark=marks.of(latent),
            )
        )
    return cards


def table_of(frame: pd.DataFrame | None, *, caption: str = "") -> Table | None:
    """A frame as it stands: numbers to three digits, x with x_low and x_high as one column with its interval."""
    if frame is None or frame.empty:
        return None
    names = [str(name) for name in frame.columns]
    bounds = {f"{name}_{end}" for name in names for end in ("low", "high") if f"{name}_low" in names}
    columns = [name for name in names if name not in bounds]
    numeric = [i for i, name in enumerate(columns) if pd.api.types.is_numeric_dtype(frame[name])]
    counts = [i for i, name in enumerate(columns) if pd.api.types.is_integer_dtype(frame[name])]
    rows = []
    for row in _records(frame):
        words = []
        for i, name in enumerate(columns):
            if f"{name}_low" in names:
                words.append(interval(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])))
            elif i in numeric:
                words.append(whole(float(row[name])) if i in counts else number(float(row[name])))
            else:
                words.append("" if pd.isna(row[name]) else str(row[name]))
        rows.append(TableRow(words))
    return Table([name.replace("_", " ") for name in columns], rows, frozenset(numeric), caption)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as mappings; the index stands in them under its name."""
    named = frame.reset_index() if frame.index.name else frame
    return [{str(name): value for name, value in row.items()} for row in named.to_dict("records")]
