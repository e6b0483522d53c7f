"""Files from the Hugging Face Hub, served by a local fake; each error is one line."""

import hashlib
import http.server
import threading

import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained.hub import find_file

COMMIT = "0123456789012345678901234567890123456789"
CONTENT = b"tensors"


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves owner/good, which has only a pytorch_model.bin; owner/gone does not exist."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()
        if self.path.endswith("/pytorch_model.bin"):
            self.wfile.write(CONTENT)

    def answer(self):
        good = self.path.startswith("/owner/good/resolve/")
        code = "" if good else "RepoNotFound"
        if good and "/resolve/main/" not in self.path and COMMIT not in self.path:
            code = "RevisionNotFound"
        elif good and not self.path.endswith("/pytorch_model.bin"):
            code = "EntryNotFound"
        self.send_response(404 if code else 200)
        if code:
            self.send_header("X-Error-Code", code)
        else:
            self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(0 if code else len(CONTENT)))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("huggingface_hub.constants")  # not imported by the package itself
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    download = hub.hf_hub_download
    monkeypatch.setattr(
        hub,
        "hf_hub_download",
        lambda *args, **options: download(
            *args, **options, endpoint=address, cache_dir=tmp_path / "cache"
        ),
    )
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once_and_its_commit_recorded(hub, capfd):
    located = find_file("model.backbone_weights", "hf://owner/good")
    assert (
        capfd.readouterr().err == ""
    )  # no progress bar, whose control characters would be escaped
    assert located.path.read_bytes() == CONTENT
    assert located.path.name == "pytorch_model.bin"
    assert located.record == {"repository": "owner/good", "revision": COMMIT}
    assert find_file("x", f"hf://owner/good@{COMMIT}") == located
    hub.shutdown()  # commits never change, so the cache is used
    hub.server_close()
    assert find_file("x", f"hf://owner/good@{COMMIT}", ("pytorch_model.bin",)) == located


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hf://owner/gone", "the hub has no repository owner/gone"),
        ("hf://owner/good@old", "owner/good has no revision old"),
        ("hf://good", "must be hf://owner/name or"),
    ],
)
def test_missing_files_are_reported_in_one_line(hub, reference, message):
    with pytest.raises(ConfigError, match=message) as error:
        find_file("model.backbone_weights", reference)
    assert str(error.value).startswith(f"model.backbone_weights={reference}")
    assert "\n" not in str(error.value)


def test_a_missing_file_of_a_repository(hub):
    with pytest.raises(ConfigError, match=r"owner/good has no config\.json"):
        find_file("model.text_weights", "hf://owner/good", ("config.json",))


def test_no_network(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between retries
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ConfigError, match="the hub cannot be reached") as error:
        find_file("model.text_weights", "hf://owner/good")
    assert "\n" not in str(error.value)


def test_local_files_and_folders(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert find_file("x", str(tmp_path)) == (tmp_path / "model.safetensors", {})
    assert find_file("x", str(tmp_path / "a.pth")) == (tmp_path / "a.pth", {})
    with pytest.raises(ConfigError, match=r"x=.*the folder contains no vocab\.txt"):
        find_file("x", str(tmp_path), ("vocab.txt",))
