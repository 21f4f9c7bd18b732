"""What each cell type is made of; tones are amounts of four dyes, which a laboratory gives their colours."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cytosae.cells.synthetic.nuclei import ArcNucleus, LobedNucleus, NoNucleus, Nucleus, PairedNucleus, RoundNucleus

Span = tuple[float, float]
Count = tuple[int, int]
Tone = tuple[float, float, float, float]
"""Amounts of purple (1: chromatin), blue (1: deeply basophilic), pink (1: eosinophil granule), red (1: red cell)."""


@dataclass(frozen=True)
class Granules:
    """Granules of one kind.

    Attributes
    ----------
    structure : str
        A name of `STRUCTURES`.
    tone : Tone
        Dyes that they add.
    count : Count
        From, to.
    radius : Span
        From, to, in units of a 128 px image.
    spacing : float
        0 for independent places, else packed with that distance in units.
    over_nucleus : bool
        Whether they lie over the nucleus, too.
    opaque : bool
        Whether they hide what is below instead of adding to it.
    """

    structure: str
    tone: Tone
    count: Count
    radius: Span
    spacing: float = 0.0
    over_nucleus: bool = False
    opaque: bool = False


@dataclass(frozen=True)
class Rods:
    """Auer rods: ``count`` of them, ``length`` and half ``width`` in units; in ``bundles`` (0, 0: each by itself)."""

    count: Count
    length: Span
    width: Span = (0.65, 0.9)
    bundles: Count = (0, 0)


@dataclass(frozen=True)
class Projections:
    """Processes of the border: ``count``, ``length`` and half ``width`` in units; ``taper`` 0 blunt, 1 pointed."""

    count: Count
    length: Span
    width: Span
    taper: float


@dataclass(frozen=True)
class CellType:
    """One type of cell.

    Attributes
    ----------
    radius : Span
        Of the cell, units of a 128 px image.
    cytoplasm : Tone
        Dyes of the cytoplasm; ``rim`` more of them at the border (share), ``mottle`` their unevenness.
    nucleus : Nucleus
        Its shape; ``purple`` its dye, ``ragged`` the unevenness of its border in units.
    chromatin : float
        Strength of the clumps; ``clump`` their size in units, ``channels`` strength of the pale lines between.
    roughness, elongation : float, Span
        Of the outline.
    granules, rods, projections : tuple of Granules, Rods or None, Projections or None
        What else is drawn.
    nucleoli, vacuoles : Count
        From, to; ``vacuole_radius`` in units, ``vacuoles_over_nucleus`` whether they lie there, too.
    hof : float
        Paling beside the nucleus, 0..1.
    ghost : bool
        Whether the cytoplasm is lost: the outline is filled by the bare, smeared nucleus.
    characteristic_of : str or None
        The leukemia that these cells are pathognomonic of.
    """

    radius: Span
    cytoplasm: Tone
    nucleus: Nucleus
    purple: float = 1.0
    chromatin: float = 0.36
    clump: float = 2.4
    channels: float = 0.5
    ragged: float = 0.8
    rim: float = 0.15
    mottle: float = 0.12
    roughness: float = 0.05
    elongation: Span = (1.0, 1.12)
    granules: tuple[Granules, ...] = ()
    rods: Rods | None = None
    projections: Projections | None = None
    nucleoli: Count = (0, 0)
    vacuoles: Count = (0, 0)
    vacuole_radius: Span = (0.9, 2.1)
    vacuoles_over_nucleus: bool = False
    hof: float = 0.0
    ghost: bool = False
    characteristic_of: str | None = None


_NEUTROPHIL = Granules("neutrophil_granules", (0.22, 0, 0.20, 0), (160, 320), (0.3, 0.6))
_EOSINOPHIL = Granules(
    "eosinophil_granules", (0.08, 0, 0.84, 0), (900, 901), (0.95, 1.2), spacing=2.1, opaque=True
)  # as many as there is room for
_BASOPHIL = Granules(
    "basophil_granules", (1.1, 0.15, 0, 0), (110, 230), (0.85, 1.45), spacing=2.1, over_nucleus=True, opaque=True
)
_AZUROPHIL = Granules("azurophil_granules", (0.38, 0, 0.42, 0), (150, 340), (0.4, 0.8), over_nucleus=True)
_SPARSE_AZUROPHIL = replace(_AZUROPHIL, count=(6, 18), radius=(0.6, 1.0), over_nucleus=False)
_DUST = Granules("azurophil_granules", (0.20, 0, 0.22, 0), (40, 160), (0.35, 0.55))
_GIANT = Granules("giant_granules", (0.14, 0, 0.90, 0), (3, 9), (1.6, 3.4), opaque=True)
_ABNORMAL = Granules("abnormal_granules", (1.0, 0.05, 0.1, 0), (10, 34), (1.3, 2.1), over_nucleus=False, opaque=True)

_MYELOBLAST = CellType(
    (26, 32), (0.04, 0.50, 0, 0), RoundNucleus((0.78, 0.88), 0.14, (1.0, 1.2)),
    purple=0.62, chromatin=0.26, clump=1.4, channels=0.24, ragged=1.3, rim=0.40, roughness=0.13,
    elongation=(1.0, 1.2), nucleoli=(1, 4),
)  # fmt: skip
_PROMYELOCYTE = CellType(
    (28, 35), (0.13, 0.40, 0.08, 0), RoundNucleus((0.64, 0.73), 0.26, (1.0, 1.2)),
    purple=0.76, chromatin=0.28, clump=1.5, channels=0.30, ragged=1.4, rim=0.25, roughness=0.10,
    elongation=(1.0, 1.2), granules=(_AZUROPHIL,), nucleoli=(0, 2), hof=0.45,
)  # fmt: skip

NORMAL_TYPES: dict[str, CellType] = {
    "neutrophil_segmented": CellType(
        (24, 28), (0.05, 0.04, 0.14, 0), LobedNucleus((2, 5), (0.25, 0.30)), granules=(_NEUTROPHIL,), clump=1.9
    ),
    "neutrophil_band": CellType(
        (24, 28), (0.05, 0.06, 0.14, 0), ArcNucleus((0.22, 0.28), 0.52, (3.0, 4.3), 0.9),
        purple=0.95, granules=(_NEUTROPHIL,), clump=1.9,
    ),
    "eosinophil": CellType(
        (25, 29), (0.03, 0.10, 0.35, 0), LobedNucleus((2, 3), (0.30, 0.36), 0.50),
        purple=0.92, granules=(_EOSINOPHIL,), clump=2.0,
    ),
    "basophil": CellType(
        (22, 26), (0.10, 0.10, 0.08, 0), LobedNucleus((2, 3), (0.38, 0.46), 0.36, strand=0.2),
        purple=0.72, chromatin=0.2, granules=(_BASOPHIL,), roughness=0.09,
    ),
    "monocyte": CellType(
        (28, 34), (0.06, 0.30, 0.02, 0), ArcNucleus((0.38, 0.49), 0.36, (1.5, 3.0), 0.85),
        purple=0.80, chromatin=0.30, clump=1.5, channels=0.42, ragged=1.8, rim=0.12, mottle=0.22, roughness=0.12,
        elongation=(1.0, 1.3), granules=(_DUST,), vacuoles=(0, 6),
        projections=Projections((0, 3), (2.0, 5.0), (3.0, 5.5), 0.35),
    ),
    "lymphocyte": CellType(
        (17, 22), (0.03, 0.48, 0, 0), RoundNucleus((0.82, 0.93), 0.12, (1.0, 1.15)),
        purple=0.95, chromatin=0.32, clump=2.4, channels=0.24, ragged=1.1, rim=0.35,
    ),
    "lymphocyte_large_granular": CellType(
        (23, 28), (0.02, 0.24, 0, 0), RoundNucleus((0.60, 0.70), 0.26, (1.0, 1.2)),
        purple=0.92, chromatin=0.24, clump=2.9, channels=0.18, rim=0.25, roughness=0.08,
        elongation=(1.0, 1.25), granules=(_SPARSE_AZUROPHIL,),
    ),
    "lymphocyte_reactive": CellType(
        (27, 34), (0.03, 0.42, 0, 0), RoundNucleus((0.58, 0.70), 0.24, (1.05, 1.35)),
        purple=0.85, chromatin=0.24, clump=2.2, channels=0.22, ragged=1.6, rim=0.60, roughness=0.22,
        elongation=(1.0, 1.3), nucleoli=(0, 2), vacuoles=(0, 2),
    ),
    "plasma_cell": CellType(
        (24, 29), (0.12, 0.98, 0, 0), RoundNucleus((0.50, 0.58), 0.46, (1.0, 1.1)),
        purple=0.92, chromatin=0.42, clump=3.4, channels=0.30, rim=0.20, mottle=0.15, elongation=(1.15, 1.45),
        hof=0.6, vacuoles=(0, 3),
    ),
    "myeloblast": _MYELOBLAST,
    "promyelocyte": _PROMYELOCYTE,
    "myelocyte": CellType(
        (25, 30), (0.08, 0.16, 0.12, 0), RoundNucleus((0.58, 0.68), 0.30, (1.1, 1.35)),
        purple=0.92, chromatin=0.28, clump=2.0, channels=0.30, ragged=1.0,
        granules=(replace(_NEUTROPHIL, count=(200, 420)), replace(_AZUROPHIL, count=(10, 70), radius=(0.45, 0.75))),
    ),
    "metamyelocyte": CellType(
        (24, 29), (0.07, 0.08, 0.14, 0), ArcNucleus((0.34, 0.41), 0.40, (1.7, 2.4), 0.78),
        purple=0.95, chromatin=0.30, clump=2.0, channels=0.32,
        granules=(replace(_NEUTROPHIL, count=(160, 320)), replace(_AZUROPHIL, count=(0, 10), radius=(0.45, 0.7))),
    ),
    "erythroblast": CellType(
        (15, 20), (0.02, 0.26, 0, 0.55), RoundNucleus((0.50, 0.64), 0.24, (1.0, 1.1)),
        purple=1.25, chromatin=0.26, clump=3.1, channels=0.14, rim=0.10, roughness=0.07, elongation=(1.0, 1.2),
    ),
    "smudge_cell": CellType(
        (22, 31), (0, 0, 0, 0), RoundNucleus((1.0, 1.0), 0, (1.0, 1.0)),
        purple=0.56, chromatin=0.26, clump=1.6, channels=0.28, ragged=1.6, roughness=0.34, elongation=(1.0, 1.6),
        ghost=True, nucleoli=(0, 1),
    ),
    "platelet": CellType(
        (6.0, 10.0), (0.26, 0.20, 0.12, 0), NoNucleus(), roughness=0.16, elongation=(1.0, 1.4), rim=0.1, mottle=0.3,
        granules=(Granules("azurophil_granules", (0.34, 0.05, 0.14, 0), (16, 44), (0.5, 1.0)),),
        projections=Projections((0, 5), (1.0, 2.5), (0.7, 1.2), 0.7),
    ),
}  # fmt: skip
"""Cells of a healthy smear or marrow."""

PATHOLOGICAL_TYPES: dict[str, CellType] = {
    "myeloblast_with_auer_rod": replace(
        _MYELOBLAST, nucleus=RoundNucleus((0.70, 0.79), 0.24, (1.0, 1.15)), rods=Rods((1, 2), (11, 17)),
        granules=(replace(_AZUROPHIL, count=(0, 20), over_nucleus=False),), hof=0.3,
        characteristic_of="RUNX1::RUNX1T1-like",
    ),
    "blast_giant_granules": replace(
        _MYELOBLAST, radius=(29, 35), nucleus=RoundNucleus((0.62, 0.72), 0.30, (1.0, 1.2)),
        cytoplasm=(0.04, 0.66, 0, 0), granules=(_GIANT,), hof=0.5, characteristic_of="RUNX1::RUNX1T1-like",
    ),
    "faggot_cell": replace(
        _PROMYELOCYTE, radius=(30, 36), nucleus=RoundNucleus((0.56, 0.66), 0.34, (1.1, 1.4)), hof=0.0,
        granules=(replace(_AZUROPHIL, count=(40, 130)),), rods=Rods((9, 24), (9, 17), (0.5, 0.75), bundles=(2, 3)),
        characteristic_of="PML::RARA-like",
    ),
    "promyelocyte_bilobed": replace(
        _PROMYELOCYTE, radius=(29, 35), nucleus=PairedNucleus(), hof=0.0, nucleoli=(0, 1),
        granules=(replace(_AZUROPHIL, count=(150, 330), radius=(0.45, 0.8)),), rods=Rods((0, 1), (8, 13)),
        characteristic_of="PML::RARA-like",
    ),
    "blast_cup_like": replace(
        _MYELOBLAST, nucleus=RoundNucleus((0.80, 0.87), 0.10, (1.0, 1.1), cup=(0.34, 0.46)), nucleoli=(0, 2),
        characteristic_of="NPM1-like",
    ),
    "eosinophil_abnormal": CellType(
        (27, 33), (0.04, 0.28, 0.22, 0), ArcNucleus((0.36, 0.43), 0.36, (1.4, 2.4), 0.85),
        purple=0.85, chromatin=0.25, clump=1.9, ragged=1.2,
        granules=(replace(_EOSINOPHIL, spacing=2.5, count=(110, 220)), _ABNORMAL), characteristic_of="CBFB::MYH11-like",
    ),
    "hairy_cell": CellType(
        (20, 24), (0.03, 0.32, 0, 0), RoundNucleus((0.62, 0.72), 0.20, (1.05, 1.35)),
        purple=0.82, chromatin=0.22, clump=1.8, channels=0.18, rim=0.1, mottle=0.2, roughness=0.10,
        projections=Projections((26, 46), (3.0, 8.5), (0.75, 1.25), 0.8), nucleoli=(0, 1),
    ),
    "vacuolated_cell": replace(
        _MYELOBLAST, cytoplasm=(0.08, 0.95, 0, 0), nucleus=RoundNucleus((0.68, 0.78), 0.18, (1.0, 1.15)), purple=0.80,
        vacuoles=(10, 28), vacuole_radius=(1.0, 2.3), vacuoles_over_nucleus=True, nucleoli=(1, 3),
    ),
}  # fmt: skip
"""Cells of disease."""

TYPES: dict[str, CellType] = NORMAL_TYPES | PATHOLOGICAL_TYPES
"""Every type that `draw_cell` knows."""
