"""What README and docs tell people to type is understood, and their Python runs."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cli.test_help import COMMANDS
from conftest import SMALL
from documentation.blocks import FILES, ROOT, blocks, commands

from cytosae.cells.synthetic import synthesize
from cytosae.cells.table import COLUMNS as COLUMNS_OF_CELLS
from cytosae.cli.commands import app
from cytosae.common.configuration import to_plain
from cytosae.pipeline import Study, StudyConfig
from cytosae.pipeline.places import PLACES

sys.path.insert(0, str(ROOT / "scripts"))
from command_pages import commands_page

PYTHON = blocks("python")
STAGE = """
from pathlib import Path
import cytosae
from cytosae.cells import load_image
study = cytosae.Study("DIR")
atlas, cells, store, sae = study.atlas("acevedo"), study.cells("acevedo"), study.tokens("acevedo"), study.sae()
Path("atlas").mkdir(exist_ok=True)
image = load_image("cell.png")
"""
"""What blocks of Python find around them."""


@pytest.mark.parametrize(("line", "where"), commands().items(), ids=lambda value: value)
def test_a_command_in_the_docs_is_one_that_exists(line, where):
    words = shlex.split(line.replace("...", ""))
    app.parse_args(words[1:], exit_on_error=False, print_error=False)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the names that the docs use stand for something: DIR, IMAGES, cell.png, smear."""
    folder = tmp_path_factory.mktemp("stage")
    made = synthesize(folder / "acevedo", patients=6, cells=8, seed=2, diagnoses=("control", "PML::RARA-like"))
    table = (made / "manifest.csv").read_text(encoding="utf-8")
    (made / "manifest.csv").write_text(table.replace("PML::RARA-like", "APL").replace("control", "AML"))
    for name in ("IMAGES", "smear", "my_smears"):
        (folder / name).symlink_to(made)
    Study.open(folder / "DIR", [made], [SMALL]).run()
    (folder / "runs").mkdir()
    demo = shutil.copytree(folder / "DIR", folder / "runs" / "demo")
    assert demo.is_dir()
    shutil.copyfile(min(made.glob("images/**/*.png")), folder / "cell.png")
    return folder


@pytest.mark.parametrize("block", [block for block in PYTHON if not block.why], ids=lambda block: block.name)
def test_python_in_the_docs_runs(block, stage, monkeypatch, capsys):
    monkeypatch.chdir(stage)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict[str, object] = {}
    exec(STAGE, names)
    exec(compile(block.code, block.name, "exec"), names)


def test_what_is_not_run_says_why():
    assert all(len(block.why.split()) > 3 for block in PYTHON if block.why)
    assert sum(block.why is None for block in PYTHON) >= len(PYTHON) // 2


def docs_text() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in FILES)


def test_every_command_and_option_is_on_the_page_of_commands():
    page = commands_page()
    for words in [words for words in COMMANDS if words]:
        assert f"cytosae {' '.join(words)}" in page
    options = {f"--{path}" for path in option_names(to_plain(StudyConfig()))} - {"--datasets", "--train-on"}
    assert len(options) > 50
    assert [option for option in options if option not in page] == []


def option_names(plain: Mapping[str, object], path: str = "") -> Iterator[str]:
    for name, value in plain.items():
        place = f"{path}{name}".replace("_", "-")
        if isinstance(value, Mapping):
            yield from option_names(value, f"{place}.")
        elif name != "type":
            yield place


def test_every_artifact_and_every_column_is_documented(stage):
    text = docs_text()
    places = [place.format(of="<dataset>") for place in PLACES.values()]
    assert [place for place in places if Path(place).name not in text and place.split("/")[0] + "/" not in text] == []
    study = Study(stage / "DIR")
    atlas, cells = study.atlas("acevedo"), study.cells("acevedo")
    columns = [*atlas.var.columns, *atlas.layers, *atlas.obsm, *COLUMNS_OF_CELLS]
    assert [name for name in columns if f"`{name}`" not in text and f'["{name}"]' not in text] == []
    assert set(COLUMNS_OF_CELLS) <= set(cells.frame.columns)


def test_links_between_pages_lead_somewhere():
    broken = []
    for file in FILES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
            if not (file.parent / target).exists():
                broken.append(f"{file.relative_to(ROOT)}: {target}")
    assert broken == []
