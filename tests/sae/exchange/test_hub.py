"""Push and pull against a local server that speaks the part of the hub's interface that huggingface_hub uses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
import torch

from cytosae.common.errors import InputError, WeightsError
from cytosae.sae.exchange.checkpoint import save_sae
from cytosae.sae.exchange.hub import pull_sae, push_sae
from cytosae.sae.exchange.sources import load_sae
from cytosae.sae.model.autoencoder import SparseAutoencoder
from cytosae.sae.variants.topk import TopK

REPO = "hospital/blood"


class Hub:
    """Repositories in memory: name -> {"visibility", "commits": [(sha, files)]}."""

    def __init__(self):
        self.repos, self.requests = {}, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self)

            def do_GET(self):
                hub.answer(self)

            def do_POST(self):
                hub.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def files(self, repo, revision="main"):
        commits = self.repos[repo]["commits"]
        return commits[-1] if revision == "main" else next(c for c in commits if c[0] == revision)

    def answer(self, request):
        path = unquote(urlsplit(request.path).path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append((request.command, path))
        for method, pattern, reply in self.routes():
            match = re.fullmatch(pattern, path)
            if match and request.command in method:
                try:
                    return send(request, *reply(body, *match.groups()))
                except (KeyError, StopIteration):
                    break
        return send(request, 404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})

    def routes(self):
        return [
            (("POST",), r"/api/repos/create", self.create),
            (("POST",), r"/api/validate-yaml", lambda _: (200, {"errors": [], "warnings": []}, {})),
            (("POST",), r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            (("POST",), r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
            (("GET",), r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.info),
            (("GET",), r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", self.tree),
            (("HEAD", "GET"), r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
        ]

    def create(self, body):
        request = json.loads(body)
        name = f"{request['organization']}/{request['name']}"
        # older clients send "private", newer ones "visibility"
        visibility = request.get("visibility") or ("private" if request.get("private") else "public")
        self.repos.setdefault(name, {"visibility": visibility, "commits": []})
        return 200, {"url": f"{self.endpoint}/{name}", "name": name}, {}

    def preupload(self, body, repo, _):
        names = [file["path"] for file in json.loads(body)["files"]]
        return 200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}, {}

    def commit(self, body, repo, _):
        files = dict(self.repos[repo]["commits"][-1][1]) if self.repos[repo]["commits"] else {}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        sha = hashlib.sha1(body).hexdigest()
        self.repos[repo]["commits"].append((sha, files))
        url = f"{self.endpoint}/{repo}/commit/{sha}"
        return 200, {"commitUrl": url, "commitOid": sha, "hookOutput": ""}, {}

    def info(self, _, repo, revision):
        sha, files = self.files(repo, revision or "main")
        return 200, {"id": repo, "sha": sha, "siblings": [{"rfilename": name} for name in files]}, {}

    def tree(self, _, repo, revision):
        files = self.files(repo, revision)[1]
        rows = [
            {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for n, c in files.items()
        ]
        return 200, rows, {}

    def resolve(self, _, repo, revision, name):
        sha, files = self.files(repo, revision)
        return 200, files[name], {"X-Repo-Commit": sha, "ETag": f'"{etag(files[name])}"'}


def etag(content):
    return hashlib.sha1(content).hexdigest()


def send(request, status, content, headers):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    # the client's cache for this test alone, and no way out to the real hub
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
    template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield server
    server.close()


def small_sae(seed=0):
    sae = SparseAutoencoder(6, 24, sparsity=TopK(k=3, aux_k=0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return sae.eval()


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "study" / "sae"
    path.parent.mkdir()
    details = {"backbone": "dinobloom-b", "block": -2, "secret": "/home/doctor/patient_names.csv"}
    save_sae(small_sae(), path, details=details)
    return path


def test_what_was_pushed_is_pulled_and_loaded_with_equal_outputs(hub, artifact, tmp_path):
    url = push_sae(artifact, REPO, token="hf_test", endpoint=hub.endpoint)
    assert url.startswith(f"{hub.endpoint}/{REPO}/commit/")
    pulled = pull_sae(REPO, endpoint=hub.endpoint, out=tmp_path / "pulled")
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load_sae(pulled)(x), small_sae()(x), rtol=0, atol=0)
    assert (pulled / "model.safetensors").read_bytes() == (artifact / "model.safetensors").read_bytes()


def test_an_sae_in_memory_can_be_pushed(hub):
    push_sae(small_sae(3), REPO, token="hf_test", endpoint=hub.endpoint)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load_sae(pull_sae(REPO, endpoint=hub.endpoint))(x), small_sae(3)(x), rtol=0, atol=0)


def test_load_sae_takes_a_repository_name(hub):
    push_sae(small_sae(), REPO, token="hf_test", endpoint=hub.endpoint)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load_sae(REPO)(x), small_sae()(x), rtol=0, atol=0)


def test_a_new_repository_is_private_unless_said_otherwise(hub, artifact):
    push_sae(artifact, REPO, token="hf_test", endpoint=hub.endpoint)
    push_sae(artifact, "hospital/open", visibility="public", token="hf_test", endpoint=hub.endpoint)
    assert hub.repos[REPO]["visibility"] == "private"
    assert hub.repos["hospital/open"]["visibility"] == "public"


def test_only_four_files_leave_and_no_private_detail(hub, artifact):
    (artifact / "trainer.safetensors").write_bytes(b"optimizer state")
    push_sae(artifact, REPO, token="hf_test", endpoint=hub.endpoint)
    _, files = hub.files(REPO)
    assert sorted(files) == ["README.md", "artifact.json", "config.json", "model.safetensors"]
    for content in files.values():
        assert b"doctor" not in content
        assert str(artifact).encode() not in content


def test_the_model_card_states_the_facts(hub, artifact):
    push_sae(artifact, REPO, licence="apache-2.0", token="hf_test", endpoint=hub.endpoint)
    card = hub.files(REPO)[1]["README.md"].decode()
    for fact in ("TopK", "24", "dinobloom-b", 'cytosae.load_sae("hospital/blood")', 'license: "apache-2.0"', "SHA-256"):
        assert fact in card


def test_a_revision_pins_the_bytes(hub):
    first = push_sae(small_sae(1), REPO, token="hf_test", endpoint=hub.endpoint).rpartition("/")[2]
    push_sae(small_sae(2), REPO, token="hf_test", endpoint=hub.endpoint)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    old = load_sae(pull_sae(REPO, revision=first, endpoint=hub.endpoint))
    new = load_sae(pull_sae(REPO, endpoint=hub.endpoint))
    torch.testing.assert_close(old(x), small_sae(1)(x), rtol=0, atol=0)
    torch.testing.assert_close(new(x), small_sae(2)(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_that_differ_from_their_record_are_refused(hub, artifact, name):
    push_sae(artifact, REPO, token="hf_test", endpoint=hub.endpoint)
    files = hub.files(REPO)[1]
    files[name] = files[name][:-1] + b"x"
    with pytest.raises(WeightsError, match=r"checksum"):
        pull_sae(REPO, endpoint=hub.endpoint)


def test_a_record_that_points_elsewhere_is_refused(hub, artifact):
    push_sae(artifact, REPO, token="hf_test", endpoint=hub.endpoint)
    files = hub.files(REPO)[1]
    record = json.loads(files["artifact.json"])
    record["files"]["../../../refs/main"] = {"sha256": "0" * 64, "bytes": 40}
    files["artifact.json"] = json.dumps(record).encode()
    with pytest.raises(WeightsError, match=re.escape(REPO)):
        pull_sae(REPO, endpoint=hub.endpoint)


def test_pickles_in_a_repository_are_not_even_fetched(hub, artifact):
    push_sae(artifact, REPO, token="hf_test", endpoint=hub.endpoint)
    hub.files(REPO)[1].update({"model.pt": b"cos\nsystem\n", "pytorch_model.bin": b"x", "code.py": b"x"})
    pulled = pull_sae(REPO, endpoint=hub.endpoint)
    assert {path.name for path in pulled.iterdir()} == {"model.safetensors", "config.json", "artifact.json"}
    assert not [path for _, path in hub.requests if path.endswith((".pt", ".bin", ".py"))]


def test_a_repository_without_an_sae_is_refused_by_name(hub):
    hub.repos["hospital/other"] = {"visibility": "public", "commits": [("a" * 40, {"config.json": b"{}"})]}
    with pytest.raises(WeightsError, match="hospital/other is no intact SAE"):
        pull_sae("hospital/other", endpoint=hub.endpoint)


def test_a_missing_repository_and_a_dead_server_give_one_sentence(hub):
    with pytest.raises(WeightsError, match="hospital/absent cannot be pulled"):
        pull_sae("hospital/absent", endpoint=hub.endpoint)
    with pytest.raises(WeightsError, match="cannot be pulled"):
        pull_sae("hospital/absent", endpoint="http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="cannot be pulled"):
        pull_sae("not a name!", endpoint=hub.endpoint)


def test_a_pulled_sae_is_there_without_network(hub, artifact):
    push_sae(artifact, REPO, token="hf_test", endpoint=hub.endpoint)
    online = pull_sae(REPO, endpoint=hub.endpoint)
    assert pull_sae(REPO, endpoint="http://127.0.0.1:9") == online


def test_wrong_calls_are_refused_before_anything_is_sent(hub, artifact, tmp_path):
    with pytest.raises(InputError, match="visibility"):
        push_sae(artifact, REPO, visibility="secret", endpoint=hub.endpoint)
    with pytest.raises(InputError, match="exists already"):
        pull_sae(REPO, out=tmp_path, endpoint=hub.endpoint)
    assert hub.requests == []


def test_the_examples_of_the_documentation_run(hub, tmp_path, shared_reference, monkeypatch):
    page = Path(__file__).parents[3] / "docs" / "sharing.md"
    shutil.copyfile(shared_reference / "official_sae_small" / "official_checkpoint.pt", tmp_path / "cytosae.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("hf_test")
    examples = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, str(page), "exec"), {})
    assert "hospital/blood-sae" in hub.repos
