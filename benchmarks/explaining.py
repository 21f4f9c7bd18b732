"""How long does `cytosae explain IMAGE` take once all is loaded?

    python benchmarks/explaining.py runs/demo
    python benchmarks/explaining.py runs/demo --image cell.png --repeats 20
    python benchmarks/explaining.py runs/paper-sized --paper-sized

With ``--paper-sized`` the study is made if it is not there: 60 drawn cells, a backbone as large as DinoBloom-B with
random weights, 49,152 latents trained for 20 steps. It costs what a real one does, and says nothing.

Each repeat explains another cell of the study, or the same ``--image``: its concepts with maps and the cells like it,
the page with pictures, its strongest concept removed and at every dose, and with the second strongest. Loading (Python
and libraries, the study, its models) and the probe of the cell type, which is fitted once, are given apart. Where the
machine does other work, the processor's time says more than the clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path

START = time.perf_counter()

import numpy as np  # noqa: E402  the clock is started before anything is imported
import torch  # noqa: E402

import cytosae  # noqa: E402
from cytosae.cells import load_image  # noqa: E402
from cytosae.common.artifact import hash_file  # noqa: E402
from cytosae.pipeline.concept_changes import ConceptChanges  # noqa: E402
from cytosae.report import Pictures, write_page  # noqa: E402
from cytosae.views import OpenedDataset, view_of_image  # noqa: E402


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--dataset")
    parser.add_argument("--image", type=Path, help="any image of a cell; else cells of the data set in turn")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--paper-sized", action="store_true", help="make the study, with random weights")
    asked = parser.parse_args()
    imported = time.perf_counter() - START
    if asked.paper_sized and not asked.study.exists():
        make_paper_sized(asked.study)
    print("| loaded once | s |\n|---|---|")
    print(f"| Python and libraries | {imported:.2f} |", flush=True)
    start = time.perf_counter()
    study = cytosae.Study(asked.study)
    name = asked.dataset or study.datasets[0]
    there = (study.atlas(name, backed="r"), study.cells(name), study.tokens(name), study.sae())
    opened, backbone = OpenedDataset(*there, looks=study.looks(name)), study.backbone
    print(f"| study, SAE, {backbone.name} | {time.perf_counter() - start:.2f} |", flush=True)
    start = time.perf_counter()
    changes = ConceptChanges(study, opened)
    print(f"| probe: {'none' if isinstance(changes.probe, str) else 'fitted'} | {time.perf_counter() - start:.2f} |")
    rows = np.linspace(0, len(opened.cells) - 1, asked.repeats).astype(int).tolist()
    images = [asked.image or opened.cells.image_path(row) for row in rows]
    taken = explain_each(study, changes, images)
    T, D, m = opened.store.n_tokens, opened.sae.d_in, opened.sae.d_sae
    print(
        f"\n{opened.atlas.n_obs:,} cells, {T} tokens of {D} numbers, {m:,} latents, {torch.get_num_threads()} threads\n"
    )
    print(f"| {len(images)} images | median s | largest s | of the processor, median s |\n|---|---|---|---|")
    for what, laps in taken.items():
        seconds, processor = np.array(laps).T
        print(f"| {what} | {np.median(seconds):.2f} | {max(seconds):.2f} | {np.median(processor):.2f} |")


def make_paper_sized(path: Path) -> None:
    """A study with a backbone and an SAE of the paper's sizes; the backbone's weights are random."""
    import timm

    from cytosae.cells.synthetic import synthesize

    torch.manual_seed(0)
    path.mkdir(parents=True)
    images, weights = synthesize(path / "images", patients=6, cells=10, seed=0), path / "random_vit_b.pth"
    torch.save(timm.create_model("vit_base_patch14_dinov2", num_classes=0, img_size=224).state_dict(), weights)
    backbone = {"name": "dinobloom-b", "weights": str(weights)}
    sae = {"expansion": 64, "train": {"steps": 20, "batch_tokens": 1024}}
    cytosae.Study.open(path, [images], [{"backbone": backbone, "sae": sae}]).run()


def explain_each(study: cytosae.Study, changes: ConceptChanges, images: list[Path]) -> dict[str, list[np.ndarray]]:
    """Seconds, and those of the processor, of each part, image by image."""
    taken, opened = defaultdict(list), changes.dataset

    def now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def lap(what: str, start: np.ndarray) -> np.ndarray:
        taken[what].append(now() - start)
        return now()

    with tempfile.TemporaryDirectory(prefix="cytosae-explaining-") as folder:
        for image in images:
            begun = start = now()
            explanation = study.explain(image, opened.name)
            start = lap("concepts, maps, cells like it", start)
            view = view_of_image(image.name, hash_file(image), explanation, opened)
            write_page(Path(folder) / "page.html", view, Pictures([opened.cells], {view.cell.cell: image}))
            start = lap("page with pictures", start)
            lap("**explained**", begun)
            start = now()
            tokens, counted = study.see(load_image(image))
            known = view.cell.cell if view.cell.cell in opened.atlas.obs_names else ""
            first, second = map(int, explanation.concepts.index[:2])
            changes.of(tokens, first, 0.0, counted=counted, cell=known)
            start = lap("a concept changed, at every dose", start)
            changes.of(tokens, first, 0.0, second=second, counted=counted, cell=known)
            lap("the same, and with a second concept", start)
    return taken


if __name__ == "__main__":
    main()
