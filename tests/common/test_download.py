"""Downloads from a server that misbehaves: whole and right in the end, or one sentence."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from common.bad_server import CONTENT, BadServer, bad_server
from small_disk import small_disk

from cytosae.common.download import download, read_pins
from cytosae.common.errors import ArtifactError, DownloadError, InputError
from cytosae.common.listings import list_record, with_sizes
from cytosae.common.remote_files import RemoteFile
from cytosae.common.responses import Patience
from cytosae.common.unpacking import unpack_zip

SHORT = Patience(timeout=0.3, attempts=2, pause=0.01, longest_wait=5)
SHA = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture(scope="module")
def served() -> Iterator[BadServer]:
    with bad_server() as server:
        yield server


@pytest.fixture
def server(served: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BadServer:
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CYTOSAE_OFFLINE", raising=False)
    served.asked.clear()
    served.ranges.clear()
    return served


def remote(server: BadServer, manner: str, name: str = "file.bin", checksum: str | None = SHA) -> RemoteFile:
    return RemoteFile("file.bin", server.url(f"{manner}/{name}"), None, checksum)


@pytest.mark.parametrize("manner", ["plain", "cut", "slow", "deaf", "busy"])
def test_a_file_is_whole_whatever_happens_on_the_way(server, tmp_path, manner):
    got = download(remote(server, manner), tmp_path / "to", patience=SHORT)
    assert got.path.read_bytes() == CONTENT
    assert not got.pinned
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["file.bin"]


def test_a_download_that_broke_off_goes_on_where_it_ended(server, tmp_path):
    download(remote(server, "cut"), tmp_path, patience=SHORT)
    assert server.ranges[0] is None
    assert len(server.ranges) == 2
    assert int(str(server.ranges[1]).removeprefix("bytes=").rstrip("-")) >= len(CONTENT) // 4


def test_what_an_interrupted_process_left_is_gone_on_with(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    download(remote(server, "plain"), tmp_path, patience=SHORT)
    assert server.ranges == ["bytes=1000-"]
    (tmp_path / "file.bin").rename(tmp_path / "file.bin.part")
    assert download(remote(server, "plain"), tmp_path, patience=SHORT).path.read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_gone_on_with_where_nothing_checks_it(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    got = download(remote(server, "plain", checksum=None), tmp_path, patience=SHORT)
    assert got.path.read_bytes() == CONTENT


def test_a_server_that_never_ends_a_file_is_given_up_and_the_part_kept(server, tmp_path):
    with pytest.raises(DownloadError, match=r"run the same command again later: what has arrived is kept"):
        download(remote(server, "ever-cut"), tmp_path, patience=replace(SHORT, attempts=1))
    assert 0 < (tmp_path / "file.bin.part").stat().st_size < len(CONTENT)


@pytest.mark.parametrize(
    ("manner", "name", "words"),
    [
        ("plain", "nowhere", "answers 404 Not Found; see its page"),
        ("loop", "file.bin", r"leads on and on \(10 redirects\)"),
        ("busy", "always", "asks to wait 9,999 s; run the same command after that"),
    ],
)
def test_what_another_attempt_would_not_change_is_said_at_once(server, tmp_path, manner, name, words):
    with pytest.raises(DownloadError, match=words):
        download(remote(server, manner, name), tmp_path, patience=SHORT)
    assert not (tmp_path / "file.bin").exists()
    assert manner == "loop" or server.asked[f"/{manner}/{name}"] == 1


def test_nobody_at_the_address_is_one_sentence(server, tmp_path):
    with pytest.raises(DownloadError, match="could not be fetched"):
        download(RemoteFile("file.bin", "http://127.0.0.1:9/file.bin"), tmp_path, patience=SHORT)
    with pytest.raises(DownloadError, match="no address of a file"):
        download(RemoteFile("file.bin", "nonsense"), tmp_path, patience=SHORT)


def test_other_bytes_are_not_kept(server, tmp_path):
    with pytest.raises(DownloadError, match="gave other bytes than those meant"):
        download(remote(server, "plain", checksum="md5:" + "0" * 32), tmp_path, patience=SHORT)
    assert not (tmp_path / "file.bin").exists()
    assert not (tmp_path / "file.bin.part").exists()


def test_another_length_than_the_one_known_is_refused_before_it_is_fetched(server, tmp_path):
    with pytest.raises(DownloadError, match="512,000 bytes long instead of 511,999"):
        download(replace(remote(server, "plain"), size=511_999), tmp_path, patience=SHORT)
    assert not (tmp_path / "file.bin.part").exists()


def test_a_file_without_a_checksum_is_pinned_at_its_first_download(server, tmp_path):
    file = remote(server, "plain", "other.bin", None)
    server.content["other.bin"] = b"one"
    assert download(file, tmp_path / "a", patience=SHORT).pinned
    assert read_pins() == {file.url: f"sha256:{hashlib.sha256(b'one').hexdigest()}"}
    assert not download(file, tmp_path / "b", patience=SHORT).pinned
    server.content["other.bin"] = b"two"
    with pytest.raises(DownloadError, match="pinned at its first download"):
        download(file, tmp_path / "c", patience=SHORT)


def test_offline_is_one_sentence_and_what_is_there_is_found(server, tmp_path, monkeypatch):
    download(remote(server, "plain"), tmp_path, patience=SHORT)
    monkeypatch.setenv("CYTOSAE_OFFLINE", "1")
    assert download(remote(server, "plain"), tmp_path).path.read_bytes() == CONTENT
    (tmp_path / "file.bin").write_bytes(b"damaged")
    for attempt in (lambda: download(remote(server, "plain"), tmp_path), lambda: list_record(server.url("plain/x"))):
        with pytest.raises(DownloadError, match=r"CYTOSAE_OFFLINE forbids downloads, and .* is not at"):
            attempt()
    assert server.asked.total() == 1


def test_a_disk_that_fills_is_one_sentence_and_the_download_goes_on_later(server, tmp_path):
    with small_disk(200_000), pytest.raises(ArtifactError, match=r"file\.bin\.part could not be written"):
        download(remote(server, "plain"), tmp_path, patience=SHORT)
    got = download(remote(server, "plain"), tmp_path, patience=SHORT)
    assert got.path.read_bytes() == CONTENT
    assert str(server.ranges[-1]).startswith("bytes=")


def test_a_record_tells_names_sizes_and_checksums(server):
    entry = {"key": "../a.zip", "size": 3, "checksum": "md5:" + "a" * 32, "links": {"self": server.url("plain/a.zip")}}
    server.content["record"] = str({"files": [entry]}).replace("'", '"').encode()
    assert list_record(server.url("plain/record"), patience=SHORT) == [
        RemoteFile("a.zip", server.url("plain/a.zip"), 3, "md5:" + "a" * 32)
    ]
    server.content["record"] = b"<html>"
    with pytest.raises(DownloadError, match="is no list of files"):
        list_record(server.url("plain/record"), patience=SHORT)


def test_sizes_are_asked_for_where_they_are_not_known(server):
    assert [file.size for file in with_sizes([remote(server, "plain")], patience=SHORT)] == [len(CONTENT)]
    assert server.asked.total() == 0


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_an_archive_is_unpacked_without_its_litter(tmp_path):
    archive = zipped(
        tmp_path / "a.zip", **{"basophil/1.TIF": b"1", "__MACOSX/basophil/._1.TIF": b"x", ".DS_Store": b""}
    )
    assert unpack_zip(archive, tmp_path / "to") == 1
    assert (tmp_path / "to" / "basophil" / "1.TIF").read_bytes() == b"1"
    assert len([path for path in (tmp_path / "to").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("name", ["../out.txt", "ABSOLUTE/out.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt"])
def test_a_name_that_leads_out_is_refused_before_anything_is_written(tmp_path, name):
    archive = zipped(tmp_path / "a.zip", **{"good.txt": b"1", name.replace("ABSOLUTE", str(tmp_path)): b"2"})
    with pytest.raises(InputError, match="leads out of the folder, so nothing of it was unpacked"):
        unpack_zip(archive, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_link_in_an_archive_is_refused(tmp_path):
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(InputError, match="leads out of the folder"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "to")


def test_a_damaged_archive_and_one_larger_than_the_disk_are_sentences(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", **{"a.txt": b"1" * 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="make space, or name another folder"):
        unpack_zip(archive, tmp_path / "to")
    monkeypatch.undo()
    with small_disk(100), pytest.raises(ArtifactError, match="could not be written"):
        unpack_zip(archive, tmp_path / "to")
    (tmp_path / "b.zip").write_bytes(archive.read_bytes()[:60])
    with pytest.raises(InputError, match="damaged or encrypted archive"):
        unpack_zip(tmp_path / "b.zip", tmp_path / "to")
