"""The explorer under load: 20 simulated users on a made-up atlas, on this machine's loopback only.

    python benchmarks/explorer.py                       # 100,000 cells x 49,152 latents, 1,000 active in a cell
    python benchmarks/explorer.py --cells 20000 --seconds 20
    python benchmarks/explorer.py --study runs/demo     # a finished study with patients: pages that need its SAE, too
    python benchmarks/explorer.py --atlas made_up.h5ad  # a made-up atlas that is there already
    python benchmarks/explorer.py --minutes 60          # the memory of the server, every minute of an hour

Prints the median and 95th percentile of the time of an answer, for pages and their JSON twins, and memory and
start-up of the server. Bounded by `--seconds` (or `--minutes`) and `--requests`, whichever comes first.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytosae.atlas import save_atlas

CLASSES = ("basophil", "eosinophil", "erythroblast", "lymphocyte", "monocyte", "neutrophil", "platelet", "blast")
REFERENCES = 10


def make_atlas(cells: int, latents: int, active: int, seed: int = 0) -> ad.AnnData:
    """An atlas of random activations with the frequencies of real ones: few latents on most cells, most on few."""
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(latents) + 20.0)
    edges = np.cumsum(weights) / weights.sum()
    blocks = []
    for start in range(0, cells, 2000):
        n = min(2000, cells - start)
        drawn = np.searchsorted(edges, rng.random((n, active))).astype(np.int32)
        rows = np.repeat(np.arange(n), active)
        values = rng.lognormal(-5, 1, n * active).astype(np.float32)
        block = sp.csr_matrix((values, (rows, drawn.ravel())), shape=(n, latents), dtype=np.float32)
        block.sum_duplicates()
        blocks.append(block)
    X = sp.vstack(blocks, format="csr")
    counts = np.bincount(X.indices, minlength=latents)
    sums = np.bincount(X.indices, weights=X.data, minlength=latents)
    labels = rng.integers(0, len(CLASSES), cells)
    ids = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(cells)]
    rows = rng.integers(0, cells, (latents, REFERENCES))
    class_mean = rng.random((latents, len(CLASSES)), np.float32)
    var = pd.DataFrame(
        {
            "activation_frequency": counts / cells,
            "token_frequency": counts / cells / 50,
            "cells_active": counts,
            "mean_activation": np.divide(sums, counts, out=np.full(latents, np.nan), where=counts > 0),
            "max_activation": 1.0,
            "max_token_activation": 2.0,
            "label_entropy": rng.random(latents) * 2,
            "class_selectivity": rng.random(latents),
            "top_class": pd.Categorical(np.array(CLASSES)[class_mean.argmax(1)], categories=CLASSES),
            "position_dependence": rng.random(latents) / 10,
            "central_share": rng.random(latents),
        },
        index=pd.Index([str(i) for i in range(latents)], name="latent"),
    )
    text = {"image": ids, "label": np.array(CLASSES)[labels], "patient": [f"P{i % 500:03d}" for i in range(cells)]}
    obs = pd.DataFrame({**text, "diagnosis": np.array(["AML", "APL"])[np.arange(cells) % 2]}, index=ids)
    obs.index.name = "cell_id"
    reference = {"rows": rows, "values": np.sort(rng.random((latents, REFERENCES)))[:, ::-1], "cell_ids": np.array(ids)}
    provenance = {"dataset": "made_up", "sae": "none", "tokens": "none", "cells": "none", "side": 16, "n_tokens": 257}
    uns = {"reference_cells": reference, "provenance": provenance, "classes": np.array(CLASSES)}
    uns["class_cells"] = np.bincount(labels, minlength=len(CLASSES))
    return ad.AnnData(X=X, obs=obs, var=var, uns=uns, varm={"class_mean": class_mean})


@dataclass(frozen=True)
class Known:
    """What there is to ask for."""

    latents: int
    classes: tuple[str, ...]
    cells: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    diseases: tuple[str, ...] = ()


def look_around(address: str) -> Known:
    """What a study that is served has: latents, classes, some cells, patients and diseases."""
    dataset = json.loads(ask(address, "/api/")[1])["datasets"][0]
    anything = "/api/search?q=has%201%20or%202%20or%203%20or%205%20or%208&page="
    found = [cell for page in range(1, 11) for cell in json.loads(ask(address, f"{anything}{page}")[1])["cells"]]
    patients = json.loads(ask(address, "/api/patients")[1])
    return Known(
        dataset["latents"],
        tuple(dataset["classes"]),
        tuple(cell["cell"] for cell in found),
        tuple(row["patient"] for row in patients.get("patients", [])),
        tuple(patients.get("diseases", [])),
    )


def choose(rng: random.Random, known: Known) -> str:
    """What a user asks for next."""
    k, classes = rng.randrange(min(known.latents, 20_000)), known.classes
    if known.cells and rng.random() < 0.5:
        cell = f"/cells/{rng.choice(known.cells)}"
        return rng.choice(
            [
                cell,
                f"{cell}?patches={rng.randrange(256)}",
                f"/pictures/{rng.choice(known.cells)}.webp?size=112",
                *(["/patients", f"/patients/{quote(rng.choice(known.patients))}"] if known.patients else []),
                *([f"/diseases/{quote(rng.choice(known.diseases))}"] if known.diseases else []),
            ]
        )
    choices = [
        "/concepts",
        f"/concepts?sort={rng.choice(['frequency', 'purity', 'strength'])}&page={rng.randrange(1, 50)}",
        f"/concepts?class={quote(rng.choice(classes))}",
        f"/concepts/{k}",
        f"/search?q=has {k} and {k // 3}".replace(" ", "%20"),
        f"/search?q={quote(rng.choice(classes)[:4])}",
        "/",
    ]
    return rng.choice(choices)


def use(address: str, known: Known, until: float, most: int, seed: int, taken: dict) -> None:
    """One user: pages and twins one after the other, with half a second to look at each."""
    rng, where = random.Random(seed), urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    for _ in range(most):
        if time.monotonic() > until:
            break
        path = choose(rng, known)
        twin = rng.random() < 0.5 and not path.startswith("/pictures")
        start = time.perf_counter()
        connection.request("GET", ("/api" if twin else "") + path)
        answer = connection.getresponse()
        answer.read()
        seconds = time.perf_counter() - start
        first, *rest = path.partition("?")[0].strip("/").split("/")
        taken["twin" if twin else "page", f"/{first}/..." if rest else f"/{first}"].append((seconds, answer.status))
        time.sleep(0.5 * rng.random())
    connection.close()


def main() -> None:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that server and atlas go, too
    with tempfile.TemporaryDirectory(prefix="cytosae-load-") as name:
        folder = Path(name)
        server, address = serve(what_is_shown(asked, folder), folder)
        try:
            print(f"first /concepts/1: {ask(address, '/concepts/1')[0]:.1f} s")  # what is made once: the columns
            known = look_around(address) if asked.study else Known(asked.latents, CLASSES)
            for path in [f"/cells/{known.cells[0]}", f"/patients/{known.patients[0]}"] if known.patients else []:
                print(f"first {path[:20]}: {ask(address, path)[0]:.1f} s")
            print(f"memory of the server before: {memory(server.pid)}", flush=True)
            report(load(asked, address, known, server.pid))
            print(f"memory of the server after: {memory(server.pid)}")
        finally:
            server.terminate()
            server.wait(timeout=30)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--latents", type=int, default=49_152)
    parser.add_argument("--active", type=int, default=1000)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60, help="0: only what a start takes")
    parser.add_argument("--minutes", type=float, help="instead of seconds, and the memory of the server every minute")
    parser.add_argument("--requests", type=int, help="most requests of each user; 400, or any number within --minutes")
    parser.add_argument("--study", type=Path, help="a finished study instead of a made-up atlas")
    parser.add_argument("--atlas", type=Path, help="a made-up atlas of so many --latents that is there already")
    return parser.parse_args()


def what_is_shown(asked: argparse.Namespace, folder: Path) -> list[str]:
    """The study or atlas, as ``cytosae explore`` is told; made in ``folder`` where none is named."""
    if asked.study or asked.atlas:
        return [str(asked.study)] if asked.study else ["--atlas", str(asked.atlas)]
    atlas = make_atlas(asked.cells, asked.latents, asked.active)
    print(f"{asked.cells:,} cells x {asked.latents:,} latents, {atlas.X.nnz:,} entries")
    save_atlas(atlas, folder / "made_up.h5ad")
    return ["--atlas", str(folder / "made_up.h5ad")]


def serve(shown: list[str], folder: Path) -> tuple[subprocess.Popen, str]:
    """A server with a cache of its own, and its address."""
    begun = time.perf_counter()
    program = "from cytosae.cli import main; raise SystemExit(main())"
    words = ["explore", *shown, "--no-browser", "--port", "0", "--json"]
    environment = {**os.environ, "CYTOSAE_CACHE": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True, env=environment
    )
    text = ""
    while "}" not in text and server.poll() is None:
        text += server.stdout.readline()
    address = json.loads(text)["address"]
    print(f"listens {time.perf_counter() - begun:.1f} s after the start of the process", end=", ")
    for path, words in (("/health", "answers"), ("/", "first page")):
        ask(address, path)
        print(f"{words} {time.perf_counter() - begun:.1f} s", end=", " if path != "/" else "\n", flush=True)
    return server, address


def load(asked: argparse.Namespace, address: str, known: Known, server: int) -> dict:
    """Let the users ask; in a run of minutes, print the memory of the server meanwhile. Seconds and status by path."""
    taken: dict = defaultdict(list)
    begun = time.monotonic()
    until = begun + (asked.seconds if asked.minutes is None else 60 * asked.minutes)
    most = asked.requests or (400 if asked.minutes is None else sys.maxsize)
    users = [threading.Thread(target=use, args=(address, known, until, most, i, taken)) for i in range(asked.users)]
    for user in users:
        user.start()
    while asked.minutes is not None and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 60))
        answers = sum(map(len, list(taken.values())))
        print(f"{(time.monotonic() - begun) / 60:5.1f} min, {answers:>8,} answers: {memory(server)}", flush=True)
    for user in users:
        user.join()
    return taken


def ask(address: str, path: str) -> tuple[float, bytes]:
    """Seconds that an answer takes, and the answer."""
    where, start = urlsplit(address), time.perf_counter()
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=1200)
    connection.request("GET", path)
    text = connection.getresponse().read()
    return time.perf_counter() - start, text


def report(taken: dict) -> None:
    """A table of times."""
    print(f"\n| {'what':<22} | answers | median ms | 95% ms | not 200 |\n|---|---|---|---|---|")
    for (kind, path), answers in sorted(taken.items()):
        times = np.array([seconds for seconds, _ in answers]) * 1000
        wrong = sum(status != 200 for _, status in answers)
        median, high = np.percentile(times, [50, 95])
        print(f"| {kind + ' ' + path:<22} | {len(times)} | {median:.0f} | {high:.0f} | {wrong} |")


def memory(pid: int) -> str:
    """Resident memory, and what of it is the process's own (the rest are pages of mapped files)."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.startswith("Rss")}
    return ", ".join(f"{name} {kb / 1e6:.2f} GB" for name, kb in found.items())


if __name__ == "__main__":
    main()
