"""The context of a study's work: its folder and lock, the device and the ranks, and the models placed there."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cytosae.common.artifact import Artifact, is_current, read_artifact, record_path
from cytosae.common.disk import disk_errors
from cytosae.common.errors import ArtifactError, CytosaeError, UsageError
from cytosae.common.records import read_record, write_json
from cytosae.common.shared_lock import shared_lock
from cytosae.common.unfinished import remove, remove_work, sweep_below
from cytosae.pipeline.places import Place, reader_of
from cytosae.pipeline.step import Job, Step, StepResult, Surroundings, differences

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    from cytosae.backbones import AnyBackbone
    from cytosae.common.runtime import RuntimeConfig
    from cytosae.pipeline.study_config import BackboneConfig
    from cytosae.sae import SparseAutoencoder

LOCK = ".lock"
"""File in the folder of a study by which it is held."""


class Context(Surroundings):
    """One owner of everything that steps share; a step never loads a model or asks for a device by itself.

    Parameters
    ----------
    path : Path
        Folder of the study.
    runtime : RuntimeConfig
        Where and how to compute.
    on_step : callable or None
        Called with each `StepResult`.
    on_note : callable or None
        Called with a line about what a step is going to do.
    """

    path: Path

    def __init__(
        self,
        path: Path,
        runtime: RuntimeConfig,
        *,
        on_step: Callable[[StepResult], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.path, self._runtime = path, runtime
        self._on_step, self._on_note = on_step, on_note
        self._fabric: Fabric | None = None
        self._backbones: dict[BackboneConfig, AnyBackbone] = {}
        self._saes: dict[str, SparseAutoencoder] = {}
        self._results: list[StepResult] = []

    @property
    def fabric(self) -> Fabric:
        """The launched Fabric of this process."""
        from cytosae.common.runtime import make_fabric

        if self._fabric is None:
            self._fabric = make_fabric(self._runtime)
        return self._fabric

    @property
    def device(self) -> torch.device:
        """Where models compute."""
        return self.fabric.device

    @property
    def first(self) -> bool:
        """Whether this process is the first of its ranks, which alone writes what is written once."""
        return self.fabric.is_global_zero

    def note(self, line: str) -> None:
        """Tell people what is going to be done."""
        if self._on_note is not None:
            self._on_note(line)

    def backbone(self, asked: BackboneConfig) -> AnyBackbone:
        """A backbone on the device of the context, loaded once.

        A study whose tokens are of weights that an earlier version bundled is continued with these.
        """
        from cytosae.backbones import load_backbone

        if asked not in self._backbones:
            weights = self._former_weights() if asked.name == "tiny" and asked.weights is None else asked.weights
            self._backbones[asked] = load_backbone(asked.name, weights, block=asked.block).to(self.device)
        return self._backbones[asked]

    def _former_weights(self) -> str | None:
        """The hash of weights of `tiny` that an earlier version bundled, where tokens of this study are of them."""
        from cytosae.backbones.former_weights import is_former

        for folder in sorted((self.path / "tokens").glob("*/")):
            with suppress(CytosaeError):  # tokens that are damaged are made anew, and say nothing
                manifest = self.read(Place("tokens", folder.name), verify=False).manifest
                if manifest["backbone"]["name"] == "tiny" and is_former(manifest["weights_hash"]):
                    self.note(f"tokens of {folder.name} are of weights bundled before; the study goes on with these")
                    return manifest["weights_hash"]
        return None

    def has(self, place: Place) -> bool:
        """Whether there is an artifact at a place."""
        return place.below(self.path).exists()

    def read(self, place: Place, **how: Any) -> Any:
        """Open an artifact; an SAE is placed on the device, and read once as long as it stays the same."""
        path, reader = place.below(self.path), reader_of(place.kind)
        if reader is None:
            raise LookupError(f"a {place.kind} is for people to read, not for programs")
        if place.kind != "sae":
            return reader(path, **how)
        fingerprint = self.artifact(place).fingerprint
        if fingerprint not in self._saes:
            self._saes = {fingerprint: reader(path, **how).to(self.device).eval()}
        return self._saes[fingerprint]

    def artifact(self, place: Place) -> Artifact:
        """Record of the artifact at a place."""
        return read_artifact(place.below(self.path), place.kind, verify=False)

    def run(self, step: Step) -> StepResult:
        """Do a step, unless its artifact is there and up to date."""
        job = self.job(step)
        kind, path = step.at.kind, job.path
        current, why = self._state(job)
        start = time.perf_counter()
        self.fabric.barrier()  # every rank has seen the same state before one of them changes it
        if not current and (self.first or step.together):
            with disk_errors(path):
                step.make(job)
        self.fabric.barrier()
        seconds = 0.0 if current else time.perf_counter() - start
        if not current and self.first:
            write_json(self.path / "times.json", {**self.times(), step.at.title: round(seconds, 1)})
        if self.first:  # work may have been killed between its last two acts, publishing and cleaning up
            remove_work(path)
            for other in set(step.at.paths_below(self.path)) - {path}:  # of another format
                record_path(other).unlink(missing_ok=True)
                remove(other)
        facts = read_artifact(path, kind, verify=False).details
        return self.report(StepResult(step.at.title, path, current, seconds, facts, why))

    def report(self, result: StepResult) -> StepResult:
        """Tell people what became of a step or a part of one, and remember it."""
        self._results.append(result)
        if self._on_step is not None:
            self._on_step(result)
        return result

    def state(self, step: Step) -> tuple[bool, str]:
        """Whether the artifact of a step is there and up to date, and why not where there is one."""
        return self._state(self.job(step))

    def times(self) -> dict[str, float]:
        """Step -> seconds that it took when it last ran, as far as ``times.json`` knows."""
        file = self.path / "times.json"
        return read_record(dict[str, float], file, f"delete {file}") if file.is_file() else {}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the study for this process (and its ranks); the lock goes with the process, however it ends.

        A folder in which nothing can be written is held without a lock: nothing can be made there, only looked at.
        """
        if not self.first:
            yield
            return
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file; a study is a folder: give another path to --study.")
        lock = FileLock(self.path / LOCK)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as problem:
            raise ArtifactError(
                f"Another process works on {self.path} (it holds {lock.lock_file}); wait until it has finished."
            ) from problem
        except OSError as problem:
            if problem.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or not self.path.is_dir():
                raise
            yield
            return
        sweep_below(self.path)  # what killed processes left
        try:
            with self._remembered():
                yield
        finally:
            lock.release()
            if [entry.name for entry in self.path.iterdir()] == [LOCK]:  # nothing came of it
                shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Hold the study, which is there, together with others that do the same; none holds it `alone` meanwhile."""
        with ExitStack() as held:
            if self.first:
                try:
                    held.enter_context(shared_lock(self.path / LOCK))
                except BlockingIOError as problem:
                    raise ArtifactError(
                        f"Another process works on {self.path} alone; wait until it has finished."
                    ) from problem
            yield

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        """Write down what is done meanwhile, also where it fails."""
        from cytosae.pipeline.run_record import now, record_run

        began, known = now(), len(self._results)
        try:
            yield
        except BaseException as problem:
            with suppress(CytosaeError, OSError):  # what went wrong is the thing to tell
                record_run(self.path, self._results[known:], began=began, problem=str(problem) or repr(problem))
            raise
        record_run(self.path, self._results[known:], began=began)

    def job(self, step: Step) -> Job:
        """A step with the fingerprints of what it is made of now."""
        needs = {_input_name(place, step): self.artifact(place).fingerprint for place in step.needs}
        return Job(step, self, needs | {name: source.fingerprint for name, source in step.sources.items()})

    def _state(self, job: Job) -> tuple[bool, str]:
        current = is_current(job.path, job.step.at.kind, job.recipe, verify=job.step.at.kind != "tokens")
        return current, "" if current else self._why(job)

    def _why(self, job: Job) -> str:
        """Why an artifact that is there will not do; a sentence where it must not be replaced."""
        path = job.step.at.below(self.path)
        try:
            there = read_artifact(path, job.step.at.kind, verify=False)
        except ArtifactError as problem:
            return "" if not path.exists() else str(problem)
        if path != job.path:
            return "format changed"
        return differences(there, job.asked, job.inputs) or "damaged"


def _input_name(place: Place, step: Step) -> str:
    """Name of a need in the record: its role, and what it is about where that is not what the step is about."""
    return place.role if place.of in (None, step.at.of, step.at.dataset) else f"{place.role}/{place.of}"
