from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from cytosae.common.errors import UsageError
from cytosae.common.runtime import RuntimeConfig, make_fabric
from cytosae.common.tracking import WandbLogger, tracking
from cytosae.sae import SparseAutoencoder, TopK, TrainConfig, Trainer


class Batches:
    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __next__(self):
        tokens = torch.randn(64, 8, generator=self.generator)
        return SimpleNamespace(tokens=tokens, positions=torch.zeros(64, dtype=torch.int64))

    batch_tokens = 64

    def sample(self, n, seed):
        return next(self)

    def state_dict(self):
        return {}


def test_training_curves_reach_tensorboard(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    fabric = make_fabric(RuntimeConfig(tracker="tensorboard"))
    sae = SparseAutoencoder(8, 16, TopK(2))
    Trainer(sae, TrainConfig(steps=20, batch_tokens=64, log_every=5), fabric=fabric).fit(Batches())
    fabric.loggers[0].finalize("success")
    files = list((tmp_path / "runs").rglob("events.*"))
    assert len(files) == 1
    events = EventAccumulator(str(files[0].parent)).Reload()
    losses = [tag for tag in events.Tags()["scalars"] if tag.endswith("loss")]
    assert losses
    assert [event.step for event in events.Scalars(losses[0])] == [5, 10, 15, 20]


def test_wandb_begins_with_the_first_metrics_only(monkeypatch):
    logged = []
    run = SimpleNamespace(
        id="r1", log=lambda values, step: logged.append((step, values)), finish=lambda exit_code: None
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda project: run))
    logger = WandbLogger()
    assert logger.version is None
    logger.log_metrics({"loss": 1.0}, step=3)
    logger.finalize("success")
    assert logged == [(3, {"loss": 1.0})]
    assert logger.version == "r1"


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="tracker is 'wandb', which is not installed; run: pip install"):
        tracking("wandb")
