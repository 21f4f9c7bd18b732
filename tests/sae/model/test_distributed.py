"""Two gloo processes on this machine train as one does: tokens shared out (DDP), or latents shared out (DTensor).

The processes run once for all tests (``run_distributed.py`` under torchrun). Where sums are taken in another order,
float32 leaves differences of 1e-7 a step; over 30 steps of Adam they stay below 1e-5 of each figure.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sae.model.run_distributed import STEPS, M, Reader, make, train

from cytosae.common.errors import UsageError
from cytosae.sae import FromData, SparseAutoencoder, TopK, Trainer, load_sae, save_sae

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DATA = ["data-relu_l1", "data-ghost", "data-topk", "data-jump_relu", "data-batch_topk"]
SPLIT = ["split-relu_l1", "split-ghost", "split-topk", "split-batch_topk", "split-matryoshka", "split-jump_relu"]
RESUMED = ["resumed-relu_l1", "resumed-topk"]
FIGURES = ("mse", "l1", "ghost", "loss")


@pytest.fixture(scope="module")
def batches():
    """(steps, N, d) tokens, sparse sums of 32 directions."""
    random = np.random.default_rng(0)
    codes = (random.random((STEPS, 64, 32)) < 0.1) * random.random((STEPS, 64, 32)) * 3
    return (codes @ random.normal(size=(32, 16)) + 0.3).astype(np.float32)


def launch(script, directory):
    """Run a script with its arguments in two gloo processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, *script],
        cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def folder(batches, tmp_path_factory):
    """What two processes have left for each case."""
    path = tmp_path_factory.mktemp("ranks")
    np.savez(path / "tokens.npz", batches=batches)
    launch([Path(__file__).with_name("run_distributed.py"), path, *DATA, *SPLIT, *RESUMED], path)
    return path


@pytest.fixture(scope="module")
def ranks(folder):
    """case -> (logs, weights) of two processes."""
    results = {}
    for case in (*DATA, *SPLIT, *RESUMED):
        with np.load(folder / f"{case}.npz") as file:
            weights = dict(file)
        results[case] = json.loads(str(weights.pop("logs"))), weights
    return results


@pytest.fixture(scope="module")
def alone(batches):
    """name -> (logs, weights) of one process on whole batches."""
    made = {}

    def run(name):
        if name not in made:
            sae, config = make(name)
            logs = train(Trainer(sae, config), batches)
            made[name] = logs, {key: tensor.detach().numpy() for key, tensor in sae.state_dict().items()}
        return made[name]

    return run


def compare(ours, theirs, *, steps=STEPS, tolerance=1e-5):
    for step in range(steps):
        for figure in FIGURES:
            expected = pytest.approx(ours[step][figure], rel=tolerance, abs=1e-7)
            assert theirs[step][figure] == expected, (step, figure)
        assert theirs[step]["l0"] == pytest.approx(ours[step]["l0"], abs=1e-9 if tolerance < 1e-4 else 0.05)
        assert theirs[step]["dead"] == ours[step]["dead"]
        assert theirs[step]["explained_variance"] == pytest.approx(ours[step]["explained_variance"], abs=10 * tolerance)


@pytest.mark.parametrize("name", ["relu_l1", "topk", "jump_relu"])
def test_two_processes_with_half_of_each_batch_train_as_one_with_the_whole(ranks, alone, name):
    logs, weights = alone(name)
    compare(logs, ranks[f"data-{name}"][0])
    for key, tensor in weights.items():
        np.testing.assert_allclose(ranks[f"data-{name}"][1][key], tensor, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["relu_l1", "topk", "batch_topk", "matryoshka", "jump_relu"])
def test_two_processes_with_half_of_the_latents_train_as_one_with_all(ranks, alone, name):
    logs, weights = alone(name)
    compare(logs, ranks[f"split-{name}"][0])
    for key, tensor in weights.items():
        np.testing.assert_allclose(ranks[f"split-{name}"][1][key], tensor, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("kind", ["data", "split"])
def test_ghost_gradients_are_those_of_one_process(ranks, alone, kind):
    # The ghost term divides by squares near 0: rounding grows tenfold a step (in one process with its tokens in another
    # order just so), hence the first steps with it.
    logs, _ = alone("ghost")
    assert logs[6]["ghost"] > 0
    compare(logs, ranks[f"{kind}-ghost"][0], steps=11, tolerance=1e-4)


@pytest.mark.parametrize("name", ["topk", "batch_topk", "ghost"])
def test_the_cases_have_dead_latents_to_revive(alone, name):
    assert alone(name)[0][-1]["dead"] > 0


def test_batch_topk_learns_one_threshold_from_all_ranks(ranks, alone):
    # each rank shares out k N among its own N tokens, so the trajectory is near, not equal
    logs, weights = alone("batch_topk")
    others, theirs = ranks["data-batch_topk"]
    assert theirs["state.threshold"] == pytest.approx(weights["state.threshold"], rel=0.1)
    assert all(other["l0"] == pytest.approx(log["l0"], rel=0.05) for log, other in zip(logs, others, strict=True))
    assert others[-1]["loss"] == pytest.approx(logs[-1]["loss"], rel=0.1)


@pytest.mark.parametrize("name", ["relu_l1", "topk"])
def test_a_split_training_resumes_from_checkpoints_of_the_ordinary_format(folder, ranks, batches, name):
    sae, config = make(name)
    Trainer(sae, config, out=folder / f"one-{name}").fit(Reader(batches))
    for key, tensor in sae.state_dict().items():
        np.testing.assert_allclose(ranks[f"resumed-{name}"][1][key], tensor.numpy(), atol=1e-5, err_msg=key)
    split = sorted(path.name for path in (folder / f"resumed-{name}" / "checkpoints").iterdir())
    assert split == sorted(path.name for path in (folder / f"one-{name}" / "checkpoints").iterdir())
    # one process can go on where two stopped: there is nothing left to do, and the weights are theirs
    again, config = make(name)
    result = Trainer(again, config, out=folder / f"resumed-{name}").fit(Reader(batches))
    assert result.resumed_from == STEPS
    for key, tensor in again.state_dict().items():
        np.testing.assert_array_equal(ranks[f"resumed-{name}"][1][key], tensor.numpy(), err_msg=key)


def test_the_example_of_the_documentation_runs(tmp_path):
    page = Path(__file__).parents[3] / "docs" / "distributed.md"
    (example,) = re.findall(r"```python\n(# wide.py.*?)```", page.read_text(), flags=re.DOTALL)
    (tmp_path / "wide.py").write_text(example)
    launch([tmp_path / "wide.py"], tmp_path)
    assert load_sae(tmp_path / "wide-sae").d_sae == 512


@pytest.fixture
def one_rank(tmp_path):
    """A process group of one, for what needs a mesh but no second process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_gathered_sae_is_an_ordinary_one(one_rank, tmp_path):
    from cytosae.sae.model.distributed import gather_latents, is_sharded, shard_latents

    sae = SparseAutoencoder(16, M, TopK(k=4), seed=2)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    split = shard_latents(sae)
    assert is_sharded(split.W_enc)
    assert split.W_enc.shape == (16, M)
    whole = gather_latents(split)
    for name, tensor in before.items():
        torch.testing.assert_close(whole.state_dict()[name], tensor, rtol=0, atol=0)
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(split(x), whole(x))
    torch.testing.assert_close(split.encode(x), whole.encode(x))
    torch.testing.assert_close(load_sae(save_sae(whole, tmp_path / "sae"))(x), whole(x))


def test_what_cannot_be_split_is_refused(one_rank):
    from cytosae.sae.model.distributed import latent_mesh, shard_latents

    with pytest.raises(UsageError, match="from data"):
        shard_latents(SparseAutoencoder(16, M, TopK(k=4), initialisation=FromData()), latent_mesh())


@pytest.mark.parametrize("ranks", [3, 7])
def test_latents_must_divide_evenly(monkeypatch, ranks):
    from types import SimpleNamespace

    from cytosae.sae.model.distributed import shard_latents

    mesh = SimpleNamespace(size=lambda: ranks, ndim=1, shape=(ranks,))
    with pytest.raises(UsageError, match="64 latents cannot be split"):
        shard_latents(SparseAutoencoder(16, M), mesh)
