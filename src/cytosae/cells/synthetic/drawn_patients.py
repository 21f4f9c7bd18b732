"""Patients: a diagnosis, a mixture of cell types around that diagnosis's own, a laboratory; cells drawn on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from cytosae.cells.synthetic.disease_model import DIAGNOSES, Diagnosis
from cytosae.cells.synthetic.domains import DOMAINS, Domain, find_domain, vary_domain
from cytosae.cells.synthetic.draw import Drawing, draw_cell
from cytosae.cells.synthetic.types import TYPES
from cytosae.common.errors import UsageError

# One stream of chance for each purpose, so that one more cell or patient leaves all others as they were.
_MIXTURE, _LABELS, _CELL, _SMEAR, _PERSON, _COUNT, _LABORATORY = range(7)


class CohortOptions(TypedDict, total=False):
    """The fields of `CohortModel` as keyword arguments."""

    patients: int
    cells: int
    seed: int
    domain: str
    difficulty: float
    size: int
    spread: float
    planted: float
    diagnoses: Sequence[str]


@dataclass(frozen=True)
class CohortModel:
    """How a cohort is drawn; equal models give equal cohorts.

    Attributes
    ----------
    patients : int
        Number of patients, who take turns among the diagnoses.
    cells : int
        Cells of a patient (their mean, if ``spread`` is not 0).
    seed : int
        Of everything.
    domain : str
        A laboratory (a name of `DOMAINS`), or "mixed" for patients of all of them.
    difficulty : float
        0..1; diagnoses that differ less, fewer pathognomonic cells, fainter structures, and more variation of stain,
        light, focus and noise.
    size : int
        Px of the square images, 32 or more.
    spread : float
        Standard deviation of the logarithm of the number of cells; 0: ``cells`` each.
    planted : float
        0..1, share of the patients whose laboratory goes with the diagnosis; the others' is independent of it.
    diagnoses : sequence of str
        Names of `DIAGNOSES`.
    """

    patients: int = 12
    cells: int = 50
    seed: int = 0
    domain: str = "reference"
    difficulty: float = 0.5
    size: int = 128
    spread: float = 0.0
    planted: float = 0.0
    diagnoses: Sequence[str] = tuple(DIAGNOSES)

    def __post_init__(self) -> None:
        object.__setattr__(self, "diagnoses", tuple(self.diagnoses))  # a list given by a caller would not be hashable
        for name, least in (("patients", 1), ("cells", 1), ("size", 32), ("seed", 0), ("spread", 0)):
            value = getattr(self, name)
            if not value >= least:
                raise UsageError(f"{name} is {value}; give {least} or more.")
        for name in ("difficulty", "planted"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; give a number from 0 to 1.")
        if self.domain != "mixed":
            find_domain(self.domain)
            if self.planted:
                raise UsageError("a planted laboratory effect needs several laboratories; give the domain mixed.")
        if not self.diagnoses:
            raise UsageError(f"there are no diagnoses; give one or more of: {', '.join(DIAGNOSES)}.")
        for name in self.diagnoses:
            if name not in DIAGNOSES:
                raise UsageError(f"there is no diagnosis {name!r}; choose among: {', '.join(DIAGNOSES)}.")

    @property
    def laboratories(self) -> list[str]:
        """Names of the laboratories."""
        return list(DOMAINS) if self.domain == "mixed" else [self.domain]


@dataclass(frozen=True)
class Patient:
    """One patient, as drawn from the model.

    Attributes
    ----------
    name : str
        "P000", "P001", ...
    diagnosis, laboratory : str
        Names of `DIAGNOSES` and `DOMAINS`.
    age, sex : int, str
        Independent of the diagnosis.
    smear : Domain
        The laboratory on the day of this smear.
    shares : dict of str to float
        Cell type -> expected share of the patient's cells; types that do not occur are left out.
    labels : tuple of str
        The type of each cell.
    """

    name: str
    diagnosis: str
    laboratory: str
    age: int
    sex: str
    smear: Domain
    shares: dict[str, float]
    labels: tuple[str, ...]


def draw_patient(model: CohortModel, index: int) -> Patient:
    """The ``index``-th patient of a model; no cell is drawn yet."""
    turn = index % len(model.diagnoses)
    name = model.diagnoses[turn]
    laboratory = _laboratory(model, index, list(DIAGNOSES).index(name))
    person = _stream(model, index, _PERSON)
    shares = _mixture(name, _stream(model, index, _MIXTURE), model.difficulty)
    count = model.cells
    if model.spread:
        factor = np.exp(model.spread * _stream(model, index, _COUNT).standard_normal() - model.spread**2 / 2)
        count = max(int(np.rint(model.cells * factor)), 1)
    chosen = _stream(model, index, _LABELS).choice(len(shares), size=count, p=list(shares.values()))
    types = list(shares)
    return Patient(
        name=f"P{index:03d}",
        diagnosis=name,
        laboratory=laboratory,
        age=int(person.integers(18, 86)),
        sex=("female", "male")[int(person.integers(2))],
        smear=vary_domain(find_domain(laboratory), _stream(model, index, _SMEAR), 0.3 + 1.2 * model.difficulty),
        shares=shares,
        labels=tuple(types[i] for i in chosen),
    )


def draw_patient_cell(model: CohortModel, patient: Patient, index: int) -> Drawing:
    """The ``index``-th cell of a patient."""
    rng = _stream(model, int(patient.name[1:]), _CELL, index)
    return draw_cell(patient.labels[index], patient.smear, rng, size=model.size, difficulty=model.difficulty)


def _stream(model: CohortModel, patient: int, purpose: int, cell: int = 0) -> Generator:
    return default_rng(SeedSequence([model.seed, patient, purpose, cell]))


def _laboratory(model: CohortModel, index: int, diagnosis: int) -> str:
    names = model.laboratories
    if model.planted and _stream(model, index, _LABORATORY).uniform() < model.planted:
        return names[diagnosis % len(names)]
    # every diagnosis meets every laboratory before the next laboratory begins
    return names[(index // len(model.diagnoses)) % len(names)]


def _mixture(name: str, rng: Generator, difficulty: float) -> dict[str, float]:
    """Expected shares of one patient's cells, around the diagnosis's, which difficulty draws to those of leukemias."""
    own = DIAGNOSES[name]
    leukemias = [model for key, model in DIAGNOSES.items() if key != "control"]
    draw = 0.0 if name == "control" else 0.7 * difficulty
    blast_share = own.blast_share + draw * (sum(d.blast_share for d in leukemias) / len(leukemias) - own.blast_share)
    blast_share = float(rng.beta(14 * blast_share, 14 * (1 - blast_share)))
    rare = {}
    for label, share in own.rare.items():
        # between patients: some have many of these cells, some hardly any
        rare[label] = min(share * (1.35 - 0.9 * difficulty) * float(rng.gamma(3.0)) / 3.0, 0.35)
    common = 1 - sum(rare.values())
    shares = dict.fromkeys(TYPES, 0.0)
    for part, size, concentration in (("blasts", blast_share, 30.0), ("others", 1 - blast_share, 60.0)):
        expected = _drawn_together(own, leukemias, part, draw)
        drawn = rng.dirichlet(concentration * np.array(list(expected.values())))
        for label, share in zip(expected, drawn.tolist(), strict=True):
            shares[label] += common * size * share
    for label, share in rare.items():
        shares[label] += share
    whole = sum(shares.values())
    return {label: share / whole for label, share in shares.items() if share > 0}


def _drawn_together(own: Diagnosis, leukemias: list[Diagnosis], part: str, draw: float) -> dict[str, float]:
    """Expected shares within blasts or others, moved towards the mean of all leukemias."""
    labels = [label for label in TYPES if any(label in getattr(d, part) for d in (own, *leukemias))]
    mean = {label: sum(getattr(d, part).get(label, 0.0) for d in leukemias) / len(leukemias) for label in labels}
    mixed = {label: (1 - draw) * getattr(own, part).get(label, 0.0) + draw * mean[label] for label in labels}
    return {label: share for label, share in mixed.items() if share > 0}


@dataclass(frozen=True)
class CohortArrays:
    """Drawn cells as arrays.

    Attributes
    ----------
    images : ndarray of uint8, shape (N, size, size, 3)
        RGB.
    masks : ndarray of uint8, shape (N, size, size)
        0 background and other cells, 1 cytoplasm, 2 nucleus.
    structures : ndarray of uint16, shape (N, size, size)
        Bit flags of `STRUCTURES`.
    attributes : DataFrame
        (N, attributes), the index as in `Cohort.cells`.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    structures: NDArray[np.uint16]
    attributes: pd.DataFrame


@dataclass(frozen=True)
class Cohort:
    """Patients and their cells, with the truth about them; images are drawn when they are asked for, never written."""

    model: CohortModel

    @cached_property
    def patients(self) -> list[Patient]:
        """All patients."""
        return [draw_patient(self.model, index) for index in range(self.model.patients)]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell, see `cell_rows`; the index is "P000/0000", ..."""
        rows = [row for patient in self.patients for row in cell_rows(patient)]
        return pd.DataFrame(rows).set_index("cell")

    def draw(self, cell: str) -> Drawing:
        """Draw one cell by its name, such as "P000/0000"."""
        patient, number = cell.split("/")
        return draw_patient_cell(self.model, self.patients[int(patient[1:])], int(number))

    def drawings(self, cells: Sequence[str] | None = None) -> Iterator[Drawing]:
        """Draw cells one by one; all of them by default."""
        for cell in self.cells.index if cells is None else cells:
            yield self.draw(cell)

    def arrays(self, cells: Sequence[str] | None = None) -> CohortArrays:
        """Draw cells into arrays; all of them by default (a cell of 128 px takes 114 kB)."""
        names = list(self.cells.index if cells is None else cells)
        size = self.model.size
        images = np.empty((len(names), size, size, 3), dtype=np.uint8)
        masks = np.empty((len(names), size, size), dtype=np.uint8)
        structures = np.empty((len(names), size, size), dtype=np.uint16)
        attributes = []
        for i, drawing in enumerate(self.drawings(names)):
            images[i], masks[i], structures[i] = drawing.image, drawing.mask, drawing.structures
            attributes.append(drawing.attributes)
        return CohortArrays(images, masks, structures, pd.DataFrame(attributes, index=pd.Index(names, name="cell")))


def generate_cohort(**model: Unpack[CohortOptions]) -> Cohort:
    """A cohort in memory; nothing is written. The parameters are the fields of `CohortModel`."""
    return Cohort(CohortModel(**model))


def cell_rows(patient: Patient) -> list[dict[str, object]]:
    """What is known of each cell of a patient: cell, label, patient, diagnosis, domain, pathognomonic, ...

    ``characteristic_of`` is the diagnosis that the cell's type is pathognomonic of, "" for most types; a cell is
    ``pathognomonic`` where that is the patient's own.
    """
    rows: list[dict[str, object]] = []
    for index, label in enumerate(patient.labels):
        of = TYPES[label].characteristic_of
        rows.append(
            {
                "cell": f"{patient.name}/{index:04d}",
                "label": label,
                "patient": patient.name,
                "diagnosis": patient.diagnosis,
                "domain": patient.laboratory,
                "characteristic_of": of or "",
                "pathognomonic": of == patient.diagnosis,
            }
        )
    return rows
