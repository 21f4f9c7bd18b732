"""The trainer: steps, several SAEs at once, sample-dependent starts, logs, divergence, resumption."""

from __future__ import annotations

import csv
import math

import pandas as pd
import pytest
import torch

from cytosae.common.errors import ArtifactError, TrainingError, UsageError
from cytosae.common.runtime import RuntimeConfig, make_fabric
from cytosae.sae import (
    BatchTopK,
    Constant,
    FromData,
    JumpRelu,
    LinearDecay,
    Matryoshka,
    MeanNorm,
    PositionMean,
    ReluL1,
    SparseAutoencoder,
    TopK,
    TrainConfig,
    Trainer,
    Whitening,
    geometric_median,
)
from cytosae.sae.training.schedule import rate_factor
from cytosae.sae.training.state import latest_state, list_states

pytestmark = pytest.mark.usefixtures("one_thread")
D, M, BATCH, T = 8, 32, 64, 4
QUICK = TrainConfig(
    learning_rate=1e-2,
    warmup_steps=3,
    steps=20,
    batch_tokens=BATCH,
    dead_window=2,
    sample_tokens=256,
    checkpoint_every=4,
    keep_checkpoints=2,
    log_every=2,
)


@pytest.fixture
def reader(make_reader, make_tokens):
    def make():
        return make_reader(make_tokens(512, D), torch.arange(T).repeat(128), batch_tokens=BATCH, seed=1)

    return make


class InterruptionError(Exception):
    pass


class Breaking:
    """A reader that is interrupted before the batch of step ``at``."""

    def __init__(self, reader, at):
        self.reader, self.at = reader, at

    def __getattr__(self, name):
        return getattr(self.reader, name)

    def __next__(self):
        if self.reader.step == self.at:
            raise InterruptionError
        return next(self.reader)


def weights(sae):
    return {name: tensor.detach().clone() for name, tensor in sae.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


def test_paper_configuration_is_the_papers():
    paper = TrainConfig.paper()
    assert (paper.learning_rate, paper.warmup_steps, paper.schedule) == (4e-4, 500, Constant())
    assert (paper.batch_tokens, paper.steps, paper.dead_window, paper.seed) == (16_448, 15_625, 64, 42)
    assert paper.ghost_gradients
    assert paper.decoder_bias == "geometric_median"
    assert TrainConfig.paper(steps=5).steps == 5
    assert (paper.dead_tokens, paper.total_tokens) == (64 * 16_448, 15_625 * 16_448)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"keep_checkpoints": 0}, "keep_checkpoints"),
        ({"gradient_clip": 0.0}, "gradient_clip"),
        ({"explosion": 1.0}, "explosion"),
    ],
)
def test_impossible_configurations_are_refused(changes, name):
    with pytest.raises(UsageError, match=name):
        TrainConfig(**changes)


def test_learning_rate_warms_up_and_decays():
    constant = [rate_factor(Constant(), s, steps=100, warmup_steps=4) for s in range(100)]
    assert constant[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert constant[-1] == 1.0
    decaying = [rate_factor(LinearDecay(0.2), s, steps=100, warmup_steps=0) for s in range(101)]
    assert decaying[80] == 1.0
    assert decaying[90] == pytest.approx(0.5)
    assert decaying[100] == 0.0
    with pytest.raises(UsageError, match="share"):
        LinearDecay(0.0)


def test_step_takes_flat_tokens_and_whole_images(make_tokens):
    x = make_tokens(BATCH, D)
    logs = []
    for tokens in (x, x.view(-1, T, D)):
        sae = SparseAutoencoder(D, M, TopK(4))
        logs.append(Trainer(sae, QUICK).step(tokens))
    assert logs[0] == logs[1]
    assert logs[0].l0 == 4


def test_logged_figures_are_the_dense_ones(make_tokens):
    sae, x = SparseAutoencoder(D, M, ReluL1(1e-2)), make_tokens(BATCH, D)
    sae.normalise_decoder()
    activations, reconstruction = sae.encode(x).detach(), sae(x).detach()
    log = Trainer(sae, QUICK).step(x)
    squared = (reconstruction - x).square()
    assert log.mse == pytest.approx(float((squared / x.norm(dim=1, keepdim=True)).mean()), rel=1e-5)
    assert log.l1 == pytest.approx(float(1e-2 * activations.sum(1).mean()), rel=1e-5)
    assert log.l0 == pytest.approx(float((activations > 0).sum(1).float().mean()))
    assert log.loss == pytest.approx(log.mse + log.l1 + log.ghost)
    variance = float((x - x.mean(0)).square().sum())
    assert log.explained_variance == pytest.approx(1 - float(squared.sum()) / variance, rel=1e-4)
    assert log.learning_rate == pytest.approx(1e-2 / 3)


def test_dead_latents_are_those_silent_for_longer_than_the_window(make_tokens):
    sae = SparseAutoencoder(D, M, TopK(4, aux_k=0))
    with torch.no_grad():
        sae.b_enc[5] = -1e6
    trainer = Trainer(sae, QUICK)
    x = make_tokens(BATCH, D)
    for _ in range(QUICK.dead_window + 1):
        trainer.step(x)
    assert bool(trainer.runs[0].dead[5])
    assert trainer.step(x).dead >= 1


def test_gradient_has_no_part_along_decoder_rows(make_tokens, monkeypatch):
    sae = SparseAutoencoder(D, M, TopK(4))
    trainer = Trainer(sae, QUICK)
    seen = []
    step = trainer.runs[0].adam.step
    monkeypatch.setattr(trainer.runs[0].adam, "step", lambda: (seen.append(sae.W_dec.grad.clone()), step()))
    before = sae.W_dec.detach().clone()
    trainer.step(make_tokens(BATCH, D))
    assert (seen[0] * before).sum(1).abs().max() < 1e-6
    assert seen[0].abs().max() > 1e-3


def test_gradient_clip_limits_the_norm(make_tokens, monkeypatch):
    sae = SparseAutoencoder(D, M, TopK(4))
    trainer = Trainer(sae, TrainConfig(gradient_clip=1e-3))
    norms = []
    step = trainer.runs[0].adam.step

    def watch():
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in sae.parameters())))
        step()

    monkeypatch.setattr(trainer.runs[0].adam, "step", watch)
    trainer.step(make_tokens(BATCH, D))
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)


def test_several_saes_on_one_reading_equal_separate_trainings(reader, tmp_path):
    def make():
        return [
            SparseAutoencoder(D, M, TopK(4), Whitening(), seed=1),
            SparseAutoencoder(D, 2 * M, BatchTopK(6), Whitening(), seed=2),
            SparseAutoencoder(D, M, ReluL1(1e-3), seed=3),
        ]

    together, alone = make(), make()
    trainer = Trainer(together, QUICK, out=tmp_path, names=["a", "b", "c"])
    trainer.fit(reader())
    assert trainer._groups == [[0, 1], [2]]  # tokens are whitened once for the first two
    for sae in alone:
        Trainer(sae, QUICK).fit(reader())
    for one, other in zip(together, alone, strict=True):
        assert_same(weights(one), weights(other))
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert list(table["sae"].unique()) == ["a", "b", "c"]
    assert len(table) == 3 * QUICK.steps // QUICK.log_every


def test_saes_of_different_token_width_or_equal_names_are_refused():
    with pytest.raises(UsageError, match="same token width"):
        Trainer([SparseAutoencoder(4, 8), SparseAutoencoder(5, 8)])
    with pytest.raises(UsageError, match="different names"):
        Trainer([SparseAutoencoder(4, 8), SparseAutoencoder(4, 8)], names=["a", "a"])


def test_fit_starts_from_the_sample(reader):
    sample = reader().sample(256, 0)
    for choice in ("mean", "geometric_median", "zero", "keep"):
        sae = SparseAutoencoder(D, M, TopK(4), MeanNorm(), initialisation=FromData())
        with torch.no_grad():
            sae.b_dec.fill_(7.0)
        trainer = Trainer(sae, TrainConfig(decoder_bias=choice, sample_tokens=256, batch_tokens=BATCH))
        trainer._begin(reader())
        x = sae.normaliser(sample.tokens)
        expected = {
            "mean": x.mean(0),
            "geometric_median": geometric_median(x[:, None]),
            "zero": torch.zeros(D),
            "keep": torch.full((D,), 7.0),
        }[choice]
        torch.testing.assert_close(sae.b_dec.detach(), expected)


def test_geometric_median_is_of_images_where_the_reader_has_them(reader, make_tokens):
    class Store:
        n_tokens = T

        def __init__(self, images):
            self.images = images

        def __len__(self):
            return len(self.images)

        def read(self, start, stop):
            return self.images[start:stop]

    images = make_tokens(BATCH, D, seed=3).view(-1, T, D)  # just as many as make a batch: all of them are drawn
    source = reader()
    source.stores = [Store(images[:5]), Store(images[5:])]
    sae = SparseAutoencoder(D, M)
    Trainer(sae, TrainConfig.paper(batch_tokens=BATCH, sample_tokens=64))._begin(source)
    torch.testing.assert_close(sae.b_dec.detach(), geometric_median(images))


def test_a_fitted_normalisation_is_kept(reader):
    sae = SparseAutoencoder(D, M, TopK(4), MeanNorm())
    sae.normaliser.fit(torch.full((10, D), 0.5))
    before = float(sae.normaliser.scale)
    Trainer(sae, QUICK)._begin(reader())
    assert float(sae.normaliser.scale) == before


def test_reader_with_another_batch_size_is_refused(reader):
    with pytest.raises(UsageError, match="make the reader's batch_tokens 99"):
        Trainer(SparseAutoencoder(D, M), TrainConfig(batch_tokens=99, sample_tokens=64)).fit(reader())


def test_training_improves_the_reconstruction(reader):
    sae = SparseAutoencoder(D, M, TopK(4), Whitening())
    trainer = Trainer(sae, TrainConfig(steps=300, batch_tokens=BATCH, learning_rate=5e-3, sample_tokens=256))
    result = trainer.fit(reader())
    assert result.steps == 300
    assert result.logs[0].explained_variance > 0.7


def test_metrics_file_has_a_row_for_each_logged_step(reader, tmp_path):
    Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK, out=tmp_path).fit(reader())
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert list(table["step"]) == list(range(2, 21, 2))
    assert list(table["tokens"]) == [64 * s for s in table["step"]]
    assert {"loss", "mse", "l1", "ghost", "l0", "explained_variance", "dead_share", "learning_rate"} <= set(table)
    assert table["loss"].notna().all()


def test_the_last_checkpoints_are_kept(reader, tmp_path):
    Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK, out=tmp_path).fit(reader())
    assert [p.name for p in list_states(tmp_path / "checkpoints")] == ["step-000000016", "step-000000020"]


VARIANTS = [
    (ReluL1(1e-2), None),
    (TopK(4, aux_k=3), Whitening()),
    (BatchTopK(4, aux_k=3), PositionMean()),
    (JumpRelu(), MeanNorm()),
    (Matryoshka(4, aux_k=3, prefixes=(0.5, 1.0)), Whitening(position_mean=False)),
]


@pytest.mark.parametrize(("sparsity", "normalisation"), VARIANTS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("at", [3, 9])
def test_interrupted_training_ends_bitwise_the_same(reader, tmp_path, sparsity, normalisation, at):
    config = TrainConfig(**{**QUICK.__dict__, "ghost_gradients": isinstance(sparsity, ReluL1)})

    def make():
        return SparseAutoencoder(D, M, sparsity, normalisation)

    undisturbed, killed, resumed = make(), make(), make()
    Trainer(undisturbed, config, out=tmp_path / "a").fit(reader())
    with pytest.raises(InterruptionError):
        Trainer(killed, config, out=tmp_path / "b").fit(Breaking(reader(), at))
    result = Trainer(resumed, config, out=tmp_path / "b").fit(reader())
    assert result.resumed_from == at // 4 * 4
    assert_same(weights(undisturbed), weights(resumed))
    logs = [pd.read_csv(tmp_path / name / "metrics.csv").drop(columns="tokens_per_second") for name in "ab"]
    pd.testing.assert_frame_equal(*logs)


def test_finished_training_is_not_repeated(reader, tmp_path):
    Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK, out=tmp_path).fit(reader())
    again = SparseAutoencoder(D, M, TopK(4))
    result = Trainer(again, QUICK, out=tmp_path).fit(Breaking(reader(), 0))
    assert (result.steps, result.resumed_from, result.logs) == (20, 20, ())


def test_checkpoint_of_another_configuration_is_refused(reader, tmp_path):
    Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK, out=tmp_path).fit(reader())
    with pytest.raises(UsageError, match="another configuration"):
        Trainer(SparseAutoencoder(D, M, TopK(5)), QUICK, out=tmp_path).fit(reader())


def test_damaged_checkpoint_gives_way_to_the_one_before(reader, tmp_path):
    Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK, out=tmp_path).fit(reader())
    folder = tmp_path / "checkpoints"
    newest = list_states(folder)[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4] + b"oops")
    (folder / ".step-000000024.0a.partial").mkdir()
    state = latest_state(folder)
    assert state is not None
    assert state.values["step"] == 16
    assert not list(folder.glob(".*partial"))
    for path in list_states(folder):
        (path / "state.json").write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        latest_state(folder)


def test_cut_off_line_of_the_log_is_dropped_on_resumption(reader, tmp_path):
    with pytest.raises(InterruptionError):
        Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK, out=tmp_path).fit(Breaking(reader(), 10))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("12,768,0,0.1")
    Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK, out=tmp_path).fit(reader())
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == [str(step) for step in range(2, 21, 2)]


@pytest.mark.parametrize("out", [True, False])
def test_divergence_names_step_checkpoint_and_what_to_try(reader, tmp_path, out):
    config = TrainConfig(**{**QUICK.__dict__, "steps": 400, "explosion": 3.0, "learning_rate": 1e-3})
    sae = SparseAutoencoder(D, M, TopK(4))
    trainer = Trainer(sae, config, out=tmp_path if out else None)
    source = reader()

    class Exploding(Breaking):
        def __next__(self):
            batch = next(self.reader)
            return batch if self.reader.step <= 13 else batch._replace(tokens=batch.tokens * 1e3)

    with pytest.raises(TrainingError) as caught:
        trainer.fit(Exploding(source, -1))
    sentence = str(caught.value)
    assert "diverged at step 13" in sentence
    assert ("step-000000012" in sentence) is out
    assert ("there is no checkpoint yet" in sentence) is not out
    assert "learning_rate below 0.001" in sentence


def test_nan_in_the_weights_stops_training(make_tokens):
    sae = SparseAutoencoder(D, M, TopK(4))
    trainer = Trainer(sae, QUICK)
    trainer.step(make_tokens(BATCH, D))
    with torch.no_grad():
        sae.W_enc[0, 0] = float("nan")
    with pytest.raises(TrainingError, match="diverged at step 1 "):
        trainer.step(make_tokens(BATCH, D))


def test_nan_in_the_tokens_is_called_by_its_name(make_tokens):
    x = make_tokens(BATCH, D)
    x[3, 2] = float("inf")
    with pytest.raises(TrainingError, match=r"tokens of step 0 .* not finite"):
        Trainer(SparseAutoencoder(D, M, TopK(4)), QUICK).step(x)


def test_fabric_gives_the_same_weights_and_feeds_its_loggers(reader, tmp_path):
    class Logger:
        def __init__(self):
            self.seen = []

        def log_metrics(self, metrics, step=None):
            self.seen.append((step, metrics))

    logger = Logger()
    plain, through = (SparseAutoencoder(D, M, TopK(4), Whitening()) for _ in range(2))
    Trainer(plain, QUICK).fit(reader())
    fabric = make_fabric(RuntimeConfig(device="cpu"), loggers=[logger])
    Trainer(through, QUICK, fabric=fabric, out=tmp_path).fit(reader())
    assert_same(weights(plain), weights(through))
    assert [step for step, _ in logger.seen] == list(range(2, 21, 2))
    assert {"loss", "l0", "explained_variance", "dead_share"} <= set(logger.seen[0][1])


@pytest.mark.parametrize("path", ["dense", "blocks", "screened"])
def test_a_fit_leaves_decoder_rows_of_unit_norm(make_tokens, make_reader, path):
    sae = SparseAutoencoder(D, M, TopK(4))
    trainer = Trainer(sae, TrainConfig(steps=5, batch_tokens=BATCH, learning_rate=1e-2, warmup_steps=0, path=path))
    trainer.fit(make_reader(make_tokens(2 * BATCH, D), batch_tokens=BATCH))
    norms = torch.linalg.vector_norm(sae.W_dec.detach().double(), dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=3e-7)
    rows = sae.W_dec.detach().clone()
    trainer.fit(make_reader(make_tokens(2 * BATCH, D), batch_tokens=BATCH))  # nothing is left to do
    assert torch.equal(sae.W_dec, rows)
