"""What a study knows for the model card of its SAE: data and licences, values beside controls, known failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cytosae.cells import PublishedDataset, published_datasets
from cytosae.cohort import ClassificationResult
from cytosae.pipeline.places import Place
from cytosae.pipeline.study import Study
from cytosae.sae.exchange.model_card import CardFacts, DataFacts
from cytosae.views.parts.number_words import percent, two
from cytosae.views.parts.page_parts import Number, measured
from cytosae.views.patients.models_view import rivals_of

TINY = "The bundled backbone tiny makes trials possible; it is no substitute for DinoBloom, and no claim rests on it."
UNSEEN = "No expert has looked at the concepts of this SAE in a recorded review."
MANY_DEAD = 0.05
"""Share of dead latents from which it is said among the failures."""


def gather_card_facts(study: Study) -> CardFacts:
    """Read what is there of a study: cells, tokens, SAE, classifications, reviews; what is missing is left out."""
    data = tuple(_data(study, name) for name in study.datasets if study.place("cells", name).exists())
    sae = study.context.artifact(Place("sae")).details
    results = [
        (name, study.read(Place("classification", name)))
        for name in study.datasets
        if study.place("classification", name).exists()
    ]
    measures = [*_of_tokens(sae), *(row for name, result in results for row in _of_patients(result))]
    backbone = _backbone(study)
    failures = [*([TINY] if backbone.get("name") == "tiny" else []), *_failures(sae)]
    failures += [sentence for _, result in results for sentence in _failures_of(result)]
    failures += [] if (study.path / "reviews.sqlite").is_file() else [UNSEEN]
    return CardFacts(data, backbone, tuple(measures), tuple(failures))


def _data(study: Study, name: str) -> DataFacts:
    details = study.context.artifact(Place("cells", name)).details
    cells: Any = study.read(Place("cells", name)).frame
    known = _published(str(details.get("layout", "")), name)
    return DataFacts(
        name=known.title if known else "",
        role="training" if name in study.trained_on else "description",
        cells=len(cells),
        patients=int(cells["patient"].nunique()),
        licence=known.licence if known else "",
        citation=known.citation if known else "",
    )


def _published(layout: str, name: str) -> PublishedDataset | None:
    known = published_datasets()
    return known.get(layout.partition(" ")[0]) or known.get(name.lower())


def _backbone(study: Study) -> dict[str, Any]:
    for name in study.datasets:
        if study.place("tokens", name).exists():
            return dict(study.read(Place("tokens", name)).manifest["backbone"])
    return {}


def _of_tokens(sae: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    explained, positions = sae.get("explained_variance"), sae.get("variance_of_positions")
    if explained is not None and positions is not None:
        yield "explained variance", percent(explained), "the mean token of each position alone", percent(positions)


def _of_patients(result: ClassificationResult) -> Iterator[tuple[str, str, str, str]]:
    ours = _recommended(result)
    measure = f"AUROC, {' against '.join(result.classes)} ({sum(result.patients.values())} patients)"
    for control, value in rivals_of(result).items():
        yield measure, _words(ours), control, _words(value)


def _failures(sae: Mapping[str, Any]) -> Iterator[str]:
    if (dead := sae.get("dead_share") or 0.0) >= MANY_DEAD:
        yield f"{percent(dead)} of the latents are dead: they are active on no evaluated token."


def _failures_of(result: ClassificationResult) -> Iterator[str]:
    """Controls whose AUROC is not below the interval of the recommended model's."""
    ours = _recommended(result)
    reached = ours.low if ours.low is not None else ours.value
    for control, value in rivals_of(result).items():
        if value.value is not None and reached is not None and value.value >= reached:
            yield (
                f"Telling {' from '.join(result.classes)} is not shown to need these concepts: “{control}” has AUROC "
                f"{_words(value)}, the recommended model {_words(ours)}."
            )


def _recommended(result: ClassificationResult) -> Number:
    rows = result.table.set_index("model", drop=False)
    return measured(rows.loc[result.recommended.name].to_dict(), "auroc")


def _words(number: Number) -> str:
    interval = "" if number.low is None or number.high is None else f" ({two(number.low)} to {two(number.high)})"
    return f"{two(number.value)}{interval}"
