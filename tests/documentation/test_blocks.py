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
from documentation.blocks import FILES, ROOT, blocks, commands
from documentation.pages import PAGES, likeness, outputs, run_page
from documentation.typed import MINUTES, calls, is_server, on_stage, runs_elsewhere, serve_nobody, set_stage

from cytosae.atlas.stored.matrix import layer_names
from cytosae.cells.table import COLUMNS as COLUMNS_OF_CELLS
from cytosae.cli import main
from cytosae.cli.commands import app
from cytosae.common.configuration import to_plain
from cytosae.pipeline import Study, StudyConfig
from cytosae.pipeline.places import PLACES

sys.path.insert(0, str(ROOT / "scripts"))
from mkdocs_hooks import commands_page, left_as_typed

pytestmark = pytest.mark.timeout(900)  # whoever comes first waits for the first tutorials: minutes on a busy machine
PYTHON = blocks("python")
FIRST = [ROOT / "docs" / "first_study.md", ROOT / "docs" / "first_cohort.md"]
"""Tutorials that make, in this order, the study that all other pages speak of."""
ALIKE, NEAR = 0.9, 0.8
"""Shares of an output's words, and of its numbers, that must be as written: which type comes first, and the last digits
of what is learned, may hang on the machine."""
STAGE = """
from pathlib import Path
import cytosae
from cytosae.cells import load_image
study = cytosae.Study("DIR")
atlas, cells, store, sae = study.atlas("IMAGES"), study.cells("IMAGES"), study.tokens("IMAGES"), study.sae()
Path("atlas").mkdir(exist_ok=True)
image = load_image("cell.png")
"""
"""What blocks of Python find around them."""
_INDENTED = re.compile(r"^ {4}cytosae [^\n]+$", re.M)
TYPED = commands()
APART = [line for line, block in TYPED.items() if not (block.why or block.file in PAGES)]
"""Commands of pages that are no tutorials."""
AWAY = [line for line in APART if runs_elsewhere(line)]
HERE = list({tuple(on_stage(line)): line for line in APART if line not in AWAY}.values())
"""Those that a test runs elsewhere, and those that are run here, once where the names in them stand for the same."""


@pytest.mark.parametrize("line", TYPED)
def test_a_command_in_the_docs_is_one_that_exists(line):
    words = shlex.split(line.replace("...", ""))
    app.parse_args(words[1:], exit_on_error=False, print_error=False)


def test_every_line_of_a_shell_is_run_or_says_why_not():
    for block in blocks("bash"):
        assert block.why or all(line.startswith(("cytosae ", "# ")) for line in block.lines if line.strip()), block.name


def test_commands_stand_in_blocks_of_a_shell():
    others = [block for kind in ("", "text") for block in blocks(kind)]
    fenced = [block.name for block in others if any(line.startswith("cytosae ") for line in block.lines)]
    indented = [file.name for file in FILES if _INDENTED.search(file.read_text(encoding="utf-8"))]
    assert fenced + indented == []


def test_markdown_that_a_page_shows_as_it_was_typed_is_found():
    assert left_as_typed("<p>Three:\n- one</p><p>Two\n1. first</p>") == ["- one", "1. first"]
    assert left_as_typed("<td>x</td><p>| a | b |</p><p>see [more](cohort.md)</p>") == ["| a | b |", "](cohort.md"]
    assert left_as_typed("<pre>\n- code</pre><ul>\n<li>one</li></ul><p><strong>1. Look.</strong></p>") == []


@pytest.mark.parametrize("line", AWAY)
def test_what_another_test_runs_is_in_that_test(line):
    text = (ROOT / str(runs_elsewhere(line))).read_text(encoding="utf-8")
    words = [word for word in line.split()[1:3] if word.isalpha() and word.islower()] + re.findall(r"--[\w.-]+", line)
    assert [word for word in words if word not in text and word not in {"--study", "--out", *MINUTES}] == []


@pytest.fixture(scope="module")
def first_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[Path, str]]]:
    """The folder in which the first tutorials were followed, and what they say now."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("stage")
        patch.chdir(folder)
        patch.setenv("COLUMNS", "110")
        yield folder, {page: run_page(page) for page in FIRST}


@pytest.fixture(scope="module")
def stage(first_pages: tuple[Path, dict[Path, str]]) -> Path:
    """A folder in which the names that the docs use stand for something: DIR, IMAGES, cell.png, smear."""
    folder, _ = first_pages
    for name in ("smear", "my_smears"):
        (folder / name).symlink_to(folder / "IMAGES")
    (folder / "runs").mkdir()
    demo = shutil.copytree(folder / "DIR", folder / "runs" / "demo")
    assert demo.is_dir()
    shutil.copyfile(min((folder / "IMAGES").glob("images/**/*.png")), folder / "cell.png")
    return folder


@pytest.fixture(scope="module")
def folder_of_words(stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the names of commands stand for something."""
    folder = tmp_path_factory.mktemp("typed")
    set_stage(folder, stage)
    return folder


@pytest.mark.parametrize("line", HERE)
def test_a_command_in_the_docs_ends_well(line, stage, folder_of_words, monkeypatch, capfd):
    monkeypatch.chdir(folder_of_words)
    serve_nobody(monkeypatch)
    shutil.rmtree("DIR", ignore_errors=True)
    shutil.copytree(stage / "DIR", "DIR")  # as the tutorials left it
    for words in calls(line, stage / "DIR"):
        assert main(words) == 0, capfd.readouterr().err
        assert not is_server(words) or "The explorer is at http://127.0.0.1:" in capfd.readouterr().out


@pytest.mark.parametrize(
    "block", [block for block in PYTHON if not block.why and block.file not in PAGES], ids=lambda block: block.name
)
def test_python_in_the_docs_runs(block, stage, monkeypatch, capsys):
    monkeypatch.chdir(stage)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict[str, object] = {}
    exec(STAGE, names)
    code = block.code.replace("acevedo", "IMAGES").replace('"APL"', '"PML::RARA-like"').replace('"AML"', '"control"')
    exec(compile(code, block.name, "exec"), names)


@pytest.mark.slow  # elsewhere the blocks run as well, but words may differ by more
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_outputs_of_tutorials_are_what_the_pages_say(page, first_pages, stage, monkeypatch, request):
    monkeypatch.chdir(stage)
    monkeypatch.setenv("COLUMNS", "110")
    made = first_pages[1].get(page) or run_page(page)
    if request.config.getoption("--write-outputs"):
        page.write_text(made, encoding="utf-8")
    written = outputs(page.read_text(encoding="utf-8"))
    assert len(written) == len(outputs(made)) > 0
    beside = [(old, new, likeness(old, new)) for old, new in zip(written, outputs(made), strict=True)]
    strayed = [one for one in beside if one[2][0] < ALIKE or one[2][1] < NEAR]
    assert strayed == [], "look at these, then: pytest tests/documentation --write-outputs"


def test_outputs_are_alike_but_for_times_and_last_digits():
    written = "sae  5.7 s  L0 8.0, explained variance 0.362, 40 patients on 2026-11-28, eosinophil 1,234"
    same = "sae  1.2 min  L0 8.1, explained variance 0.371, 40 patients on 2026-11-29, basophil 1,240"
    assert likeness(written, same) == (1.0, 1.0)
    assert likeness(written, same.replace("0.371", "0.871")) == (1.0, pytest.approx(4 / 5))
    assert likeness(written, same.replace("patients", "cells"))[0] < 0.95


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
    atlas, cells = study.atlas("IMAGES"), study.cells("IMAGES")
    columns = [*atlas.var.columns, *layer_names(atlas), *atlas.obsm, *COLUMNS_OF_CELLS]
    assert [name for name in columns if f"`{name}`" not in text and f'["{name}"]' not in text] == []
    assert set(COLUMNS_OF_CELLS) <= set(cells.frame.columns)


def test_links_between_pages_lead_somewhere():
    broken = []
    for file in FILES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
            if not (file.parent / target).exists():
                broken.append(f"{file.relative_to(ROOT)}: {target}")
    assert broken == []
