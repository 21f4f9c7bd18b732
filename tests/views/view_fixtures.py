"""Views of small made-up studies and cohorts, for the tests of views and of pages; each is made once a session."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

EVIL = "<script>alert('x')</script>"
SUMMARY = {
    "l0": 3.2,
    "explained_variance": 0.87,
    "variance_of_positions": 0.49,
    "explained_variance_after_position": 0.75,
    "dead_share": 1 / 30,
}


def make_dataset(folder, name, seed):
    from atlas.stub_chain import make_chain
    from PIL import Image

    from cytosae.atlas import build_atlas
    from cytosae.views import OpenedDataset

    sae, store, cells = make_chain(24, seed=seed, classes=("basophil", EVIL, "neutrophil"))
    sae = make_chain(2)[0]
    cells.name, cells.root = name, folder
    store.manifest["backbone"] |= {"name": "tiny", "side": 4, "block": 4, "weights_hash": "ab" * 32}
    rng = np.random.default_rng(seed)
    for image in cells.frame["image"]:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / image)
        mask = f"mask-{image}"
        Image.fromarray(np.full((20, 24), 2, np.uint8)).save(folder / mask)
    cells.frame["mask"] = pd.array([f"mask-{image}" for image in cells.frame["image"]], dtype="string")
    cells.skipped = pd.DataFrame({"path": [f"{EVIL}.png"], "reason": ["truncated & <b>broken</b>"]})
    cells.duplicates = pd.DataFrame(
        {
            "cell_id": ["a"],
            "kept": ["a.png"],
            "dropped": ["b.png"],
            "kept_label": ["basophil"],
            "dropped_label": ["neutrophil"],
            "labels_differ": [True],
        }
    )
    return OpenedDataset(build_atlas(sae, store, cells), cells, store, sae)


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    """Two opened data sets of one SAE."""
    return [make_dataset(tmp_path_factory.mktemp(name), name, seed) for name, seed in (("first", 0), ("second", 1))]


@pytest.fixture(scope="session")
def localised(datasets):
    import scipy.sparse as sp

    from cytosae.atlas.places.unit_search import LocalisationConfig, search_units

    rng = np.random.default_rng(0)
    area = (rng.random((20, 16)) < 0.4).astype(np.float32)
    units = {"SAE latent": rng.random((320, 5)), "backbone neuron": rng.standard_normal((320, 6))}
    units["backbone neuron"][:, 2] = area.ravel() + 0.1 * rng.random(320)
    units["SAE latent"] = sp.csc_array(units["SAE latent"])
    names = np.array(["first"] * 10 + ["second"] * 10)
    config = LocalisationConfig(bootstrap=100)
    found = search_units(units, {"nucleus": area, "cytoplasm": 1 - area}, names, np.arange(20) % 2 == 0, config)
    return replace(found, held_out={one.name: one.cells.frame["cell_id"].tolist()[:5] for one in datasets})


@pytest.fixture(scope="session")
def study_view(datasets, localised):
    from cytosae.views import view_of_study

    return view_of_study(
        datasets,
        summary=SUMMARY,
        localisation=localised,
        times={"Training": 187.2},
        trained_on=["first"],
        title=f"Report of {EVIL}",
        concepts=5,
    )


@pytest.fixture(scope="session")
def atlas_view(datasets):
    """Two atlases without tokens and SAE, and so without maps."""
    from cytosae.views import OpenedAtlas, view_of_atlas

    return view_of_atlas([OpenedAtlas(one.atlas, one.cells) for one in datasets], concepts=4)


@pytest.fixture(scope="session")
def comparison_view(datasets):
    """One SAE on two data sets."""
    from cytosae.atlas import compare_atlases
    from cytosae.views import view_of_comparison

    return view_of_comparison(compare_atlases(*(one.atlas for one in datasets)), *datasets, concepts=3)


@pytest.fixture(scope="session")
def suppression_view():
    """Artefacts of made-up cells suppressed."""
    from evaluation.planted_stains import planted

    from cytosae.evaluation.config import SuppressionConfig
    from cytosae.evaluation.suppression import measure_suppression
    from cytosae.views.datasets.suppression_view import view_of_suppression

    cells, directions, stained = planted()
    config = SuppressionConfig(splits=2, controls=2)
    found = measure_suppression(cells, directions, lambda _: stained, config)
    return view_of_suppression(found, dataset=EVIL)


@pytest.fixture(scope="session")
def names_view():
    """Three concepts: a draft that goes with an attribute as well as people agree, an accepted name, one of neither."""
    import pandas as pd

    from cytosae.views.datasets.names_view import view_of_names

    nothing = float("nan")
    table = pd.DataFrame(
        {
            "name": ["Cytoplasm of monocyte: vacuoles", EVIL, "Cells: lymphocyte"],
            "draft": [True, False, True],
            "words": ["vacuoles", "round or oval nucleus", None],
            "auc": [0.95, 0.7, nothing],
            "auc_low": [0.9, 0.6, nothing],
            "auc_high": [0.99, 0.8, nothing],
            "auc_within": [0.8, 0.5, nothing],
            "people": [0.94, 0.9, nothing],
            "family": [0.0, 0.0, nothing],
            "family_size": [2.0, 2.0, nothing],
            "family_name": ["vacuoles", "vacuoles", None],
        },
        index=pd.Index([3, 7, 9], name="latent"),
    )
    return view_of_names(table, dataset=EVIL, followed={3: "Follows vacuoles."})


@pytest.fixture(scope="session")
def pairs_view():
    """Made-up latents, of which two follow an attribute of drawn cells."""
    import pandas as pd

    from cytosae.evaluation.concept_pairs import Answered
    from cytosae.evaluation.config import PairsConfig
    from cytosae.views.datasets.pairs_view import view_of_pairs

    keys = ("verdict", "attribute", "specificity", "cell_attribute", "cell_specificity", "second", "second_share")
    said = [
        ("one", "vacuoles", 0.9, "vacuoles", 0.95, "blur", 0.05),
        ("of_cell", "blur", 0.6, "nucleus_lobes", 0.9, "nucleus_lobes", 0.3),
        ("none", "blur", 0.4, "hof", 0.2, "hof", 0.1),
    ]
    latents = pd.DataFrame([dict(zip(keys, row, strict=True)) for row in said * 2])
    latents = latents.assign(latent=[0, 1, 2] * 2, weights=["learned"] * 3 + ["random"] * 3, frequency=0.5)
    latents = latents.assign(effect=1.5, effect_low=1.0, effect_high=2.0, q=0.001)
    beside = {
        "random_specificity": 0.4,
        "random_cell_specificity": float("nan"),
        "random_one": 0.25,
        "random_of_cell": 0.0,
    }
    latents = latents.assign(**beside)
    effects = pd.DataFrame(
        {"attribute": ["vacuoles", "blur", "nucleus_lobes"], "latent": 0, "weights": "learned", "q": 0}
    )
    return view_of_pairs(Answered(latents, effects), PairsConfig(domain=EVIL))


def write_images(folder, cells):
    """A picture of each cell: a disc whose colour goes with its type."""
    from PIL import Image

    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    colours = {name: rng.integers(60, 180, 3) for name in sorted(set(cells.frame["true_label"]))}
    for image, label in zip(cells.frame["image"], cells.frame["true_label"], strict=True):
        picture = np.full((48, 48, 3), 225, np.uint8)
        picture[(x**2 + y**2) < rng.uniform(0.25, 0.5)] = colours[label]
        (folder / image).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / image)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The small cohort with pictures, what stands behind it, and a concept to be doubted."""
    from cohort.small_chain import APL_LATENT, TAU, make_small_chain

    from cytosae.atlas import build_atlas
    from cytosae.views import Evidence, Group, Marks, OpenedDataset, Shared

    sae, store, cells = make_small_chain()
    cells.root = tmp_path_factory.mktemp("pictures")
    write_images(cells.root, cells)
    evidence = Evidence(
        groups=(Group("APL", 12), Group("AML", 12)),
        dataset="small",
        performance="AUROC 0.97 (95 % interval 0.90 to 1.00) in repeated cross-validation.",
        caveats=(f"Colour alone reaches 0.5 & {EVIL}.",),
        doubts=("Random weights do as well.",),
    )
    planted = np.arange(64) == APL_LATENT
    marks = Marks(planted, np.where(planted, 0.31, 0.83))
    return Shared(OpenedDataset(build_atlas(sae, store, cells, tau=TAU), cells, store, sae), evidence, marks)


@pytest.fixture(scope="session")
def patients(shared):
    """Barcodes of the small cohort."""
    from cytosae.cohort import barcodes

    return barcodes(shared.dataset.atlas)


@pytest.fixture(scope="session")
def contrasted(patients):
    from cytosae.cohort import Intervals, contrast

    return contrast(patients, "APL", "AML", intervals=Intervals(resamples=50))


@pytest.fixture(scope="session")
def explanation(shared, patients):
    from cohort.explanation.test_explanation import linear

    from cytosae.cohort import Detail, explain_decision

    opened = shared.dataset
    reference = patients.layers["presence"].mean(0)
    model = linear("presence", seed=3)
    return explain_decision(model, opened.atlas, "P03", reference=reference, detail=Detail(opened.sae, opened.store))


@pytest.fixture(scope="session")
def patient_view(shared, explanation):
    from cytosae.views import KnownOfPatient, view_of_patient

    specific = pd.DataFrame({"z": [4.2]}, index=pd.Index([30], name="latent"))
    known_of = KnownOfPatient(EVIL, ["2 cells lie outside."], specific)
    return view_of_patient(explanation, shared, known_of, orders=20)


@pytest.fixture(scope="session")
def classified(shared, patients):
    """A classification of the small cohort, with the fewest repetitions."""
    from cytosae.cells.stain.colour import COLOUR_COLUMNS
    from cytosae.cohort import AttentionConfig, ClassificationConfig, classify

    config = ClassificationConfig(folds=3, repeats=1, kinds=("presence",), shuffles=1, bootstrap=20, slow_repeats=1)
    config = replace(config, attention=AttentionConfig(most_epochs=1), positive="APL", few_concepts=3, most_concepts=3)
    atlas = shared.dataset.atlas
    values = np.random.default_rng(0).normal(120, 9, (atlas.n_obs, 6))
    colours = pd.DataFrame(values, index=atlas.obs_names, columns=list(COLOUR_COLUMNS))
    return classify(patients, atlas, colours=colours, config=config)


@pytest.fixture(scope="session")
def cohort_view(shared, patients, contrasted, classified):
    from cohort.explanation.test_explanation import linear

    from cytosae.cohort import Design, stability
    from cytosae.views import view_of_cohort

    groups = Design(np.unique(patients.obs["diagnosis"].astype(str), return_inverse=True)[1])

    def refit(rows):
        x = np.asarray(patients.layers["presence"])[rows]
        difference = x[groups.y[rows] == 1].mean(0) - x[groups.y[rows] == 0].mean(0)
        return linear("presence", latents=np.arange(64), coef=difference[None], means=x.mean(0))

    found = stability(refit, patients.layers["presence"], groups, top=5, resamples=4)
    return view_of_cohort(patients, shared, result=classified, contrasts=[contrasted], stability=found, concepts=3)


@pytest.fixture(scope="session")
def validated(classified):
    """Twelve later patients to whom the classification keeps less than it promised; the slope has no number."""
    from cytosae.cohort import Validation

    name = classified.recommended.name
    measures = ("auroc", "balanced_accuracy", "macro_f1", "sensitivity", "specificity", "brier", "f1_AML", "f1_APL")
    measures += ("calibration_slope", "calibration_intercept", "difference")
    one = {f"{before}{m}{end}": 0.6 for before in ("", "promised_") for m in measures for end in ("", "_low", "_high")}
    one |= {"auroc_low": 0.4, "promised_auroc": 0.97, "calibration_slope": np.nan, "calibration_slope_high": np.nan}
    rows = [
        {"model": row, "family": family, **one} for row, family in ((name, "concepts"), ("colour alone", "confounder"))
    ]
    own = classified.predictions[classified.predictions["model"] == name].head(12).drop(columns="model")
    at = {
        "threshold": [0.2, 0.8],
        "net_benefit": [0.4, 0.1],
        "low": [0.3, -2.0],
        "high": [0.5, 0.2],
        "treat_all": [0.3, -1.5],
    }
    curve = pd.DataFrame({"model": name, "class": "APL", **at})
    curves = pd.concat([curve.assign(patients="later"), curve.assign(patients="cross-validation")])
    shifted = {
        "latent": [5, 9],
        "influence": [0.4, 0.1],
        "weight": [2.0, -1.0],
        "training": [0.2, 0.1],
        "later": [0.1, 0.1],
    }
    return Validation(
        classes=("AML", "APL"),
        patients={"AML": 6, "APL": 6},
        training={"AML": 12, "APL": 12},
        recommended=name,
        rows=pd.DataFrame(rows),
        predictions=own.assign(n_cells=20, outside=[True] + [False] * 11, reason=[EVIL] + [""] * 11),
        curves=curves,
        reliability=classified.reliability[classified.reliability["model"] == name],
        shifted=pd.DataFrame(
            {**shifted, "delta": [-0.4, 0.0], "p": [0.001, 0.5], "q": [0.002, 0.5], "shifted": [True, False]}
        ),
        missing={"order of imaging alone": "a rank does not place them"},
        set_aside={"P99": EVIL},
        notes=("a note",),
    )


@pytest.fixture(scope="session")
def validation_view(shared, validated, classified):
    from types import SimpleNamespace

    from cytosae.views.patients.validation_view import view_of_validation

    earlier = [SimpleNamespace(at="2026-05-04T10:00:00+00:00", patients=3)]
    dataset = shared.dataset
    return view_of_validation(validated, classified, dataset, dataset, earlier=earlier, concepts=2)


@pytest.fixture(scope="session")
def disease_view(shared, contrasted):
    from cytosae.cohort import pathognomonic_cells
    from cytosae.views import Ranking, view_of_disease

    cells = pathognomonic_cells(shared.dataset.atlas, "APL", "AML")
    hits = {"ranking": ["concepts"], "precision": [0.4], "precision_low": [0.3], "precision_high": [0.5]}
    measured = pd.DataFrame({"precision": [0.4], "average_precision": [0.7]}, index=["concepts"])
    ranking = Ranking(cells, {"enrichment": pd.DataFrame(hits), "evaluation": measured})
    return view_of_disease(contrasted, shared, ranking, concepts=3, patients=4, each=3)


@pytest.fixture(scope="session")
def image_view(shared):
    from cytosae.atlas.explaining.image_explanation import explain_cell
    from cytosae.views import view_of_image

    opened = shared.dataset
    explanation = explain_cell(opened.store.read(7, 8)[0], opened.sae, opened.atlas, concepts=5)
    return view_of_image(f"{EVIL}.png", "ab" * 32, explanation, opened)
