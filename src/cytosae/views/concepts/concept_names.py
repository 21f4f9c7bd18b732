"""What a concept is called: the name that reviewers accepted, or draft words from its reference cells and its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np

from cytosae.reviews.vocabulary import term_of_value
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import known, text

APART, SURE = 1.0, 3.29
"""Standard deviations of random patches, and of means of as many, from which on colour and texture stand out."""
LOOKS_OF = {
    part: {"darkness": ("pale", "dark"), "blueness": blueness, "grain": grain}
    for part, blueness, grain in (
        ("nucleus", ("reddish violet", "bluish violet"), ("smooth", "coarse")),
        ("cytoplasm", ("pink", "blue"), ("smooth", "granular")),
        ("elsewhere", ("reddish", "bluish"), ("even", "uneven")),
        ("all", ("reddish", "bluish"), ("smooth", "granular")),
    )
}
"""Part with which patches are compared -> look -> words for less and for more of it."""
PLACES = {"nucleus": "Nucleus of {}", "cytoplasm": "Cytoplasm of {}", "background": "Background, beside {}"}
"""Where a latent lives (`cytosae.atlas.latent_places`) -> words about the cells that it is strongest on."""
CENTRAL = 0.6
"""Central share from which on a concept is said to lie in the middle, where it is not known where it lives."""
ALIKE, LEAST, LEVEL, TRAITS = 0.8, 4, 0.05, 2
"""A trait is named when this share of at least so many annotated reference cells have it, more than chance gives at
this level after Holm's correction; and so many are named."""


def reference_ids(atlas: OpenedAtlas, latent: int) -> list[str]:
    """``cell_id`` of the reference cells of a latent, strongest first."""
    reference, names = atlas.atlas.uns["reference_cells"], atlas.atlas.obs_names
    return [str(names[row]) for row in reference["rows"][latent] if row >= 0]


def name_of(atlas: OpenedAtlas, latent: int) -> str:
    """The name that reviewers accepted, else draft words: place and cells, and what these have in common.

    Cells are named by the label that more than half of the reference cells have. Traits are values of the other columns
    of the cell table, such as human attributes.
    """
    if latent in atlas.accepted:
        return atlas.accepted[latent]
    if latent not in atlas.drafts:
        atlas.drafts[latent] = _draft(atlas, latent)
    return atlas.drafts[latent]


def _draft(atlas: OpenedAtlas, latent: int) -> str:
    labels = Counter(atlas.labels[cell] for cell in reference_ids(atlas, latent))
    of = labels.total()
    labels.pop(None, None)
    top, count = labels.most_common(1)[0] if labels else ("unlabelled cells", of)
    said = _place(atlas, latent).format(top if 2 * count > of else f"several kinds of cell, often {top}")
    return ": ".join([said, *filter(None, [", ".join((*looks_of(atlas, latent), *common_traits(atlas, latent)))])])


def looks_of(atlas: OpenedAtlas, latent: int) -> tuple[str, ...]:
    """Colour and texture of the patches on which a concept lights up, where they stand out: ("dark blue", "granular").

    A look is said where it lies `APART` standard deviations or more from its mean at random patches of the same part of
    cells, and beyond what 99.9 % of means over as many random patches do (|shift| √cells ≥ `SURE`).
    """
    if atlas.looks is None or latent not in atlas.looks.index:
        return ()
    row: Any = atlas.looks.loc[latent]
    words = LOOKS_OF.get(row["compared_with"], LOOKS_OF["all"])
    least = max(APART, SURE / max(float(row["cells"]), 1.0) ** 0.5)
    said = {look: "" if not abs(row[look]) >= least else pair[int(row[look] > 0)] for look, pair in words.items()}
    colour = " ".join(filter(None, (said["darkness"], said["blueness"])))
    return tuple(filter(None, (colour, said["grain"])))


def common_traits(atlas: OpenedAtlas, latent: int) -> tuple[str, ...]:
    """What the annotated reference cells have in common, beyond chance: the rarest among all cells first.

    With n annotated reference cells, k of which have a value that K of all N annotated cells have, p is the
    hypergeometric chance of k or more; Holm's correction is over the values tested.
    """
    rows = np.asarray(atlas.atlas.uns["reference_cells"]["rows"][latent])
    tests, tested = sum(len(values) for _, values in atlas.traits.values()), []
    for name, (codes, values) in atlas.traits.items():
        own = codes[rows[rows >= 0]]
        own = own[own >= 0]
        if len(own) < LEAST:
            continue
        value = np.bincount(own).argmax()
        having, of = int(atlas.group_sizes[name][value]), int(atlas.group_sizes[name].sum())
        chance = _chance(int((own == value).sum()), len(own), having, of)
        tested.append((chance, having / of, float((own == value).mean()), trait_words(name, values[value])))
    found = []
    for i, (chance, common, share, words) in enumerate(sorted(tested)):
        if chance * (tests - i) > LEVEL:
            break
        if share >= ALIKE:
            found.append((common, words))
    return tuple(words for _, words in sorted(found)[:TRAITS])


def _chance(found: int, drawn: int, having: int, of: int) -> float:
    """Hypergeometric chance that ``found`` or more of the cells drawn are among those that have it."""
    ways = sum(comb(having, k) * comb(of - having, drawn - k) for k in range(found, drawn + 1))
    return ways / comb(of, drawn)


def trait_words(column: str, value: str) -> str:
    """A value of a column in words: the vocabulary's ("vacuoles"), else "no cytoplasm vacuole", "cell shape round"."""
    term = term_of_value(column, value)
    if term is not None:
        return term.words
    name = column.replace("_", " ")
    return {"yes": name, "true": name, "no": f"no {name}", "false": f"no {name}"}.get(value.lower(), f"{name} {value}")


def headline(labels: Sequence[str | None]) -> str:
    """What the reference cells of a concept are, in words."""
    named = Counter(label for label in labels if label is not None)
    if not named:
        return f"{len(labels)} unlabelled reference cells"
    name, n = named.most_common(1)[0]
    if n == len(labels):
        return f"all {n} reference cells: {name}"
    if 2 * n > len(labels):
        return f"{n} of {len(labels)} reference cells: {name}"
    return "mixed: " + ", ".join(f"{label} {k}" for label, k in named.most_common(3))


def _place(atlas: OpenedAtlas, latent: int) -> str:
    lives = text(atlas.fact(latent, "lives_in")) if "lives_in" in atlas.var else None
    if lives in PLACES:
        return PLACES[lives]
    central = known(atlas.fact(latent, "central_share"))
    where = "" if central is None else ", in the middle" if central >= CENTRAL else ", towards the edge"
    return f"Cells: {{}}{where}"
