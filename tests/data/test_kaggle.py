import gc
import io
import logging
import random
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import filelock
import pytest

from memevit.data import kaggle
from memevit.errors import UserError
from tests.kaggle_server import Fault, KaggleServer

# kagglehub leaves the socket of an answer that it didn't like to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

HANDLE = "andrewmvd/doom-crossing"
FILES = {"doom/1.jpg", "animal_crossing/2.jpg", "doom_crossing_dataset.csv"}
MEBIBYTE = 1 << 20


def zip_of(contents):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def names_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def sockets_closed_here():
    yield
    gc.collect()


@pytest.fixture(scope="session")
def archive():
    """3 MiB that don't compress: kagglehub resumes in steps of 1 MiB."""
    return zip_of(dict.fromkeys(FILES, b"x") | {"doom/1.jpg": random.Random(0).randbytes(3 * MEBIBYTE)})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty kagglehub cache and no credentials."""
    for name in (
        "KAGGLE_API_TOKEN",
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
        "KAGGLE_API_ENVIRONMENT",
        "KAGGLE_KERNEL_RUN_TYPE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    # It looks through all modules, of which there are thousands once torch is imported.
    monkeypatch.setattr("kagglehub.clients.get_user_agent", lambda: "kagglehub")
    return tmp_path / "cache" / "datasets" / "andrewmvd" / "doom-crossing"


@pytest.fixture
def server(tmp_path, monkeypatch, cache, archive):
    with KaggleServer(tmp_path, archive) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def no_way_out(cache, monkeypatch):
    """A proxy address at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")


def complete_version(cache, number):
    (cache / "versions" / str(number) / "doom").mkdir(parents=True)
    (cache / "versions" / str(number) / "doom" / "1.jpg").write_bytes(b"x")
    (cache / f"{number}.complete").touch()


def refusal(handle, waits=None):
    with pytest.raises(UserError) as caught:
        kaggle.download(handle, sleep=(waits if waits is not None else []).append)
    return str(caught.value)


def test_a_data_set_is_downloaded_without_credentials_and_unpacked_into_the_cache(server, cache):
    folder = kaggle.download(HANDLE)
    assert folder == cache / "versions" / "1"
    assert names_in(folder) == FILES
    assert server.steps() == ["GetDataset", "DownloadDataset", "archive"]
    assert not any("Authorization" in request.headers for request in server.requests)
    assert not list(cache.glob("*.archive"))


def test_the_second_call_for_a_version_asks_nobody(server):
    first = kaggle.download(f"{HANDLE}/versions/1")
    n_requests = len(server.requests)
    assert kaggle.download(f"{HANDLE}/versions/1") == first
    assert len(server.requests) == n_requests


def test_the_second_call_without_a_version_asks_only_for_the_newest_version(server):
    first = kaggle.download(HANDLE)
    assert kaggle.download(HANDLE) == first
    assert server.steps()[3:] == ["GetDataset"]


def test_a_new_version_is_downloaded_beside_the_old_one(server, cache):
    kaggle.download(HANDLE)
    server.version = 2
    assert kaggle.download(HANDLE) == cache / "versions" / "2"
    assert (cache / "versions" / "1" / "doom" / "1.jpg").exists()


def test_the_token_goes_to_kaggle_and_not_to_the_storage(server, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret-token")
    kaggle.download(HANDLE)
    sent = {request.step: request.headers.get("Authorization") for request in server.requests}
    assert sent == {"GetDataset": "Bearer secret-token", "DownloadDataset": "Bearer secret-token", "archive": None}


@pytest.mark.parametrize("step", ["GetDataset", "DownloadDataset", "archive"])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(server, waits, step):
    server.answer_next(step, Fault(status=503), Fault(status=500))
    assert names_in(kaggle.download(HANDLE, sleep=waits.append)) == FILES
    assert waits == [1, 2]


def test_a_server_that_stays_busy_is_given_up_after_five_tries(server, waits, caplog):
    server.answer_next("GetDataset", *[Fault(status=503)] * 5)
    message = refusal(HANDLE, waits)
    assert "in 5 tries, the last time because it answered HTTP 503" in message
    assert waits == [1, 2, 4, 8]
    assert len([record for record in caplog.records if "try " in record.message]) == 4


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("3600", 60), ("soon", 1), ("-5", 1)])
def test_the_pause_that_the_server_asks_for_is_kept_up_to_a_minute(server, waits, asked, waited):
    server.answer_next("DownloadDataset", Fault(status=429, headers={"Retry-After": asked}))
    kaggle.download(HANDLE, sleep=waits.append)
    assert waits == [waited]


@pytest.mark.parametrize(
    ("status", "token", "expected"),
    [
        (400, "", "doesn't accept the request for andrewmvd/doom-crossing (HTTP 400: no can do)"),
        (401, "", "wants credentials for andrewmvd/doom-crossing and found none"),
        (401, "wrong", "refuses your credentials"),
        (403, "", "without credentials, or it doesn't exist"),
        (403, "right", "accept the terms it shows"),
        (404, "", "has no data set andrewmvd/doom-crossing (HTTP 404: no can do)"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(server, waits, monkeypatch, status, token, expected):
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    server.answer_next("GetDataset", Fault(status=status, body=b'{"code": 0, "message": "no can do"}'))
    message = refusal(HANDLE, waits)
    assert expected in message
    assert "--source FILE.zip" in message
    assert (token or "KAGGLE_API_TOKEN=") not in message
    assert waits == []
    assert len(server.requests) == 1


def test_a_refusal_in_an_answer_with_status_200_is_one_too(server):
    server.answer_next("GetDataset", Fault(status=200, body=b'{"code": 404, "message": "Dataset not found"}'))
    assert "has no data set andrewmvd/doom-crossing (HTTP 404: Dataset not found)" in refusal(HANDLE)


def test_a_cut_download_goes_on_where_it_stopped(server, waits):
    server.answer_next("archive", Fault(cut_after=MEBIBYTE + 1000))
    assert names_in(kaggle.download(HANDLE, sleep=waits.append)) == FILES
    assert [request.headers.get("Range") for request in server.requests if request.step == "archive"] == [
        None,
        None,  # kagglehub learns the size, then asks again for the rest.
        f"bytes={MEBIBYTE}-",
    ]
    assert waits == [1]


def test_a_download_that_an_earlier_run_left_goes_on_where_it_stopped(server, cache, archive):
    cache.mkdir(parents=True)
    (cache / "1.archive").write_bytes(archive[: 2 * MEBIBYTE])
    assert names_in(kaggle.download(HANDLE)) == FILES
    assert server.requests[-1].headers["Range"] == f"bytes={2 * MEBIBYTE}-"


def test_a_connection_that_closes_without_an_answer_is_tried_again(server, waits):
    server.answer_next("GetDataset", Fault(cut_after=0))
    server.answer_next("DownloadDataset", Fault(cut_after=0))
    assert names_in(kaggle.download(HANDLE, sleep=waits.append)) == FILES
    assert waits == [1, 2]


def test_a_poisoned_archive_in_the_cache_is_removed_and_downloaded_again(server, cache, archive):
    server.with_md5 = False  # With it kagglehub notices by itself.
    cache.mkdir(parents=True)
    (cache / "1.archive").write_bytes(b"PK\x03\x04" + b"?" * (len(archive) - 4))
    assert names_in(kaggle.download(HANDLE, sleep=lambda s: None)) == FILES


def test_an_archive_of_zeros_is_not_taken_for_an_empty_data_set(server, archive):
    server.with_md5 = False
    server.answer_next("archive", Fault(archive=bytes(len(archive))))
    assert names_in(kaggle.download(HANDLE, sleep=lambda s: None)) == FILES


def test_files_of_a_damaged_archive_do_not_stay_among_the_good_ones(server, archive):
    server.with_md5 = False
    damaged = bytearray(zip_of({"doom/0.jpg": b"old", "doom/1.jpg": bytes(100)}))
    damaged[damaged.index(bytes(100))] = 1  # A wrong checksum in the second file, after the first is unpacked.
    server.answer_next("archive", Fault(archive=bytes(damaged)))
    assert names_in(kaggle.download(HANDLE, sleep=lambda s: None)) == FILES


def test_an_archive_with_a_wrong_md5_is_downloaded_again(server, waits, archive):
    server.answer_next("archive", Fault(archive=archive[:-1] + b"!"))
    assert names_in(kaggle.download(HANDLE, sleep=waits.append)) == FILES
    assert waits == [1]


def test_an_archive_that_is_damaged_again_is_given_up(server, waits, archive, cache):
    server.answer_next("archive", *[Fault(archive=archive[:-1] + b"!")] * 2)
    assert "arrived damaged twice (its MD5 checksum is not the one that Kaggle names)" in refusal(HANDLE, waits)
    assert waits == [1]
    assert not list(cache.glob("*.complete"))
    assert not list(cache.glob("*.archive"))


def test_a_login_page_of_a_network_is_not_taken_for_kaggle(server, waits):
    server.answer_next("GetDataset", *[Fault(status=200, body=b"<html>Log in")] * 5)
    assert "the login page of a network" in refusal(HANDLE, waits)


def test_without_a_network_the_message_says_so(no_way_out, cache, waits):
    message = refusal(HANDLE, waits)
    assert "Kaggle can't be reached (Connection refused)" in message
    assert f"not in the cache {cache}" in message
    assert waits == [1, 2, 4, 8]


def test_without_a_network_the_newest_complete_version_is_used(no_way_out, cache, waits, caplog):
    for number in (2, 10):
        complete_version(cache, number)
    (cache / "versions" / "11").mkdir()  # Not complete.
    assert kaggle.download(HANDLE, sleep=waits.append) == cache / "versions" / "10"
    assert f"using the copy in {cache / 'versions' / '10'}" in caplog.text
    assert waits == []


def test_without_a_network_no_other_version_stands_in_for_the_one_asked_for(no_way_out, cache):
    complete_version(cache, 1)
    assert f"In the cache is --source kaggle:{HANDLE}/versions/1" in refusal(f"{HANDLE}/versions/2")
    assert kaggle.download(f"{HANDLE}/versions/1") == cache / "versions" / "1"


def test_a_certificate_that_is_not_known_counts_as_no_connection(server, tmp_path, monkeypatch, archive):
    (tmp_path / "other").mkdir()
    other = KaggleServer(tmp_path / "other", archive)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", other.environment["REQUESTS_CA_BUNDLE"])
    other._http.server_close()
    message = refusal(HANDLE)
    assert "certificate verify failed" in message
    assert "REQUESTS_CA_BUNDLE" in message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence(server, cache, waits):
    cache.mkdir(parents=True)
    (cache / "1.archive").symlink_to("/dev/full")
    message = refusal(HANDLE, waits)
    assert f"can't be stored in {cache} (No space left on device)" in message
    assert "KAGGLEHUB_CACHE" in message
    assert waits == []


def test_a_cache_that_can_not_be_written_is_one_sentence(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "file"))
    assert "(Not a directory)" in refusal(HANDLE)


def test_a_broken_credentials_file_is_named(server, tmp_path):
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text("{")
    assert "credentials file at" in refusal(HANDLE)
    assert server.requests == []


def test_a_token_that_can_not_be_sent_is_not_shown(server, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "two\nlines")
    message = refusal(HANDLE)
    assert "KAGGLE_API_TOKEN is one line" in message
    assert "two" not in message


def test_in_a_kaggle_notebook_that_can_not_attach_the_data_set_the_message_says_so(cache, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("KAGGLE_USER_SECRETS_TOKEN", raising=False)
    assert f"host could not attach {HANDLE}" in refusal(HANDLE)


@pytest.mark.parametrize(
    "handle",
    [
        "",
        "doom-crossing",
        "a/b/c",
        "a/b/versions/x",
        "a/b/versions/0",
        "../..",
        "a/..",
        "a b/c",
        "a/b/versions/1/2",
        "ä/b",
    ],
)
def test_a_malformed_handle_is_refused_before_any_request(cache, handle):
    assert "Write kaggle:OWNER/SLUG" in refusal(handle)
    assert not cache.parent.exists()


def test_a_pasted_link_is_answered_with_its_handle():
    assert "as in kaggle:ada/memes." in refusal("https://www.kaggle.com/datasets/ada/memes?select=a.jpg")


def test_a_second_command_waits_until_the_first_has_downloaded(server, cache, caplog):
    caplog.set_level(logging.INFO)
    cache.parent.mkdir(parents=True)
    with filelock.FileLock(cache.parent / ".doom-crossing.lock"):
        second = threading.Thread(target=kaggle.download, args=(HANDLE,))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert server.requests == []
    second.join(10)
    assert server.steps() == ["GetDataset", "DownloadDataset", "archive"]
    assert "waiting for it" in caplog.text


def test_progress_goes_to_stderr_and_nothing_to_stdout(server):
    command = f"from memevit.data import kaggle; kaggle.download({HANDLE!r})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert "Downloading to" in done.stderr
    assert "100%" in done.stderr
