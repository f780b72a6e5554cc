"""Files to a Hub and back in one commit, whatever happens on the way; the client is the real one."""

import json

import pytest

from memevit import files
from memevit.hub import publish
from tests.hub.conftest import REPO_ID, SEND, USUAL
from tests.hub.hub_server import RATE_LIMITED, READER, Fault, git_sha1

CARD = publish.sealed("---\nlicense: apache-2.0\n---\n\n# Tiny\n")
SENT = {"README.md", "config.json", "model.safetensors"}


@pytest.fixture
def folder(tmp_path):
    """Something to send: a card, a small file and a large one."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "README.md").write_text(CARD)
    (tmp_path / "page" / "config.json").write_text("{}")
    (tmp_path / "page" / "model.safetensors").write_bytes(bytes(range(256)) * 200)
    return tmp_path / "page"


def the_repo(server):
    return server.repos["model", REPO_ID]


def sent_once(server, outcome):
    """One commit that holds everything, with the tag v1."""
    assert outcome.code == 0, outcome.said
    repo = the_repo(server)
    assert repo.titles_of() == ["Upload"]
    assert set(repo.files()) == SENT | {".gitattributes"}
    assert repo.tags == {"v1": repo.refs["main"]}
    assert outcome.result["version"] == "v1"
    return True


def test_files_arrive_as_they_are_in_one_commit_and_a_second_time_in_none(server, client, folder):
    assert sent_once(server, client.send(folder))
    assert the_repo(server).files()["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert the_repo(server).private
    first = list(server.requests)
    again = client.send(folder)
    assert sent_once(server, again)
    assert not again.result["is_new"]
    new = {request.step for request in server.requests[len(first) :]}
    assert not new & {"repos/create", "preupload", "batch", "put", "commit", "tag", "branch", "settings"}


def test_a_change_replaces_adds_and_deletes_in_one_commit_and_leaves_what_is_not_ours(server, client, folder):
    client.send(folder)
    repo = the_repo(server)
    repo.add("main", repo.trees[repo.refs["main"]] | {"LICENSE": (b"mine", False)}, "by hand")
    (folder / "config.json").unlink()
    (folder / "run.json").write_text("[]")
    outcome = client.send(folder)
    assert repo.titles_of() == ["Upload", "by hand", "Upload"]
    assert set(repo.files()) == {".gitattributes", "LICENSE", "README.md", "model.safetensors", "run.json"}
    assert outcome.result["version"] == "v2"
    assert server.steps().count("put") == 1


@pytest.mark.parametrize("step", ["whoami-v2", "validate-yaml", "info", "repos/create", "refs", "commit", "tag"])
@pytest.mark.parametrize("fault", [Fault(status=503), Fault(drop=True), Fault(lose_answer=True)])
def test_a_failure_that_passes_is_waited_out_and_nothing_is_done_twice(server, client, folder, step, fault):
    server.fail(step, fault)
    outcome = client.send(folder)
    assert sent_once(server, outcome)
    assert outcome.waits in ([1.0], [])
    assert outcome.waits or (fault.lose_answer and step in ("repos/create", "commit", "tag"))
    assert not server.faults[step]


@pytest.mark.parametrize("step", ["whoami-v2", "commit"])
def test_a_hub_that_is_silent_is_not_waited_for_for_ever(server, client, folder, step):
    server.fail(step, Fault(silent_s=5.0))
    patience = "from memevit.hub import retry\nretry.TIMEOUT_S = {}\n"
    try:
        outcome = client.run(patience.format(0.5) + SEND.format(folder=str(folder), **USUAL))
    finally:
        client.run(patience.format(120.0))
    assert sent_once(server, outcome)
    assert outcome.waits == [1.0]


@pytest.mark.parametrize(
    ("headers", "expected_s"), [({"Retry-After": "17"}, 17.0), (RATE_LIMITED, 42.0), ({"Retry-After": "soon"}, 1.0)]
)
def test_a_busy_hub_says_how_long_to_wait(server, client, folder, headers, expected_s):
    server.fail("commit", Fault(status=429, headers=headers))
    outcome = client.send(folder)
    assert sent_once(server, outcome)
    assert outcome.waits == [expected_s]


def test_a_wait_of_hours_is_not_waited_for(server, client, folder):
    server.fail("repos/create", Fault(status=429, headers={"Retry-After": "7200"}))
    outcome = client.send(folder)
    assert (outcome.code, outcome.waits) == (2, [])
    assert "429" in outcome.error
    assert "Wait a while" in outcome.error


@pytest.mark.parametrize("step", ["repos/create", "commit"])
def test_a_failure_that_lasts_is_one_sentence_and_publishes_nothing(server, client, folder, step):
    server.fail(step, *[Fault(status=503)] * 6)
    outcome = client.send(folder)
    assert (outcome.code, outcome.waits) == (2, [1.0, 2.0, 4.0, 8.0, 16.0])
    assert "after 6 tries" in outcome.error
    assert not server.repos or (the_repo(server).titles_of(), the_repo(server).tags) == ([], {})
    assert sent_once(server, client.send(folder))


def test_an_upload_that_breaks_off_starts_again(server, client, folder):
    server.fail("put", Fault(drop=True))
    assert sent_once(server, client.send(folder))
    assert server.steps().count("put") == 2


def test_a_commit_of_somebody_else_in_between_is_looked_at_first(server, client, folder):
    server.fail("commit", Fault(status=412))
    outcome = client.send(folder)
    assert sent_once(server, outcome)
    assert "Somebody else has just committed" in outcome.said


def test_large_files_go_by_xet_where_the_client_has_it(server, client, folder):
    client.xet = True
    server.knows_by_xet(folder / "model.safetensors")
    assert sent_once(server, client.send(folder))
    assert "xet-write-token" in server.steps()
    assert not {"batch", "put"} & set(server.steps())


def test_where_xet_fails_plain_lfs_takes_over(server, client, folder):
    client.xet, server.has_xet = True, False
    outcome = client.send(folder)
    assert sent_once(server, outcome)
    assert server.steps().count("put") == 1
    assert "sending by plain LFS" in outcome.said


@pytest.mark.parametrize("direction", ["sending", "fetching"])
def test_a_xet_store_that_never_answers_is_given_up_and_plain_lfs_takes_over(server, client, folder, direction):
    client.xet, server.is_xet_silent = True, direction == "sending"
    server.knows_by_xet(folder / "model.safetensors")
    code = "from memevit.hub import remote\nremote.XET_TIMEOUT_S = LIMIT\n" + SEND.format(folder=str(folder), **USUAL)
    fetch = (
        "import tempfile\nwith tempfile.TemporaryDirectory() as cache:\n"
        "    sizes = {'model.safetensors': 51200}\n"
        "    path = hub.fetch(repo, pushed.commit, sizes, cache) / 'model.safetensors'\n"
        "    result['fetched'] = len(path.read_bytes())\n"
    )
    if direction == "fetching":
        assert client.run(code.replace("LIMIT", "120.0")).code == 0
        server.is_xet_silent = True
    outcome = client.run(code.replace("LIMIT", "1.0") + fetch)
    client.run("from memevit.hub import remote\nremote.XET_TIMEOUT_S = 120.0")
    assert sent_once(server, outcome)
    assert outcome.result["fetched"] == 51200
    assert f"no end after 1 s); {direction} by plain LFS" in outcome.said


def test_neither_token_nor_signed_address_is_in_the_log(server, client, folder):
    from tests.hub.hub_server import WRITER

    server.fail("put", Fault(status=503))
    outcome = client.send(folder)
    assert sent_once(server, outcome)
    said = outcome.said + client.log.read_text()
    assert "HTTP Error 503 thrown while requesting PUT" in said
    assert WRITER not in said
    assert "signature=" not in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"token": ""}, "No token for the Hub was found"),
        ({"token": "hf_wrong"}, "the Hub refused the token (401)"),
        ({"token": READER}, "The token can only read"),
        ({"repo_id": "them/games"}, "You don't have the rights to create a model under the namespace"),
    ],
)
def test_who_may_not_publish_is_told_in_a_sentence_and_nothing_is_left(server, client, folder, options, sentence):
    outcome = client.send(folder, **options)
    assert outcome.code == 2
    assert sentence in outcome.error
    assert not server.repos
    assert outcome.waits == []


def test_a_repository_of_somebody_else_is_not_written_to(server, client, folder):
    theirs = server.add_repo("them/games", private=False)
    outcome = client.send(folder, repo_id="them/games", public=True)
    assert outcome.code == 2
    assert "403" in outcome.error
    assert theirs.titles_of() == []
    assert "put" not in server.steps()


def test_no_way_to_the_hub_is_a_sentence(client):
    outcome = client.run(
        "from huggingface_hub import HfApi\nfrom memevit.hub import retry\n"
        'retry.DEFAULT.call("asking", HfApi(endpoint="http://127.0.0.1:9").whoami)'
    )
    assert outcome.code == 2
    assert "Check the connection" in outcome.error
    assert len(outcome.waits) == 5


def test_what_everybody_sees_is_not_published_to_unless_asked(server, client, folder):
    repo = server.add_repo(REPO_ID, private=False)
    outcome = client.send(folder)
    assert outcome.code == 2
    assert "is public. Give --public" in outcome.error
    assert repo.titles_of() == []
    assert sent_once(server, client.send(folder, public=True))


def test_a_private_repository_becomes_public_when_asked(server, client, folder):
    client.send(folder)
    assert client.send(folder, public=True).code == 0
    assert not the_repo(server).private
    assert the_repo(server).titles_of() == ["Upload"]


def test_a_public_one_is_made_private_and_opened_last(server, client, folder):
    assert sent_once(server, client.send(folder, public=True))
    assert not the_repo(server).private
    assert server.steps()[-1] == "settings"


def test_a_pull_request_into_a_public_repository_needs_no_flag(server, client, folder):
    server.add_repo("them/games", private=False)
    outcome = client.send(folder, repo_id="them/games", create_pr=True)
    assert outcome.code == 0, outcome.said
    assert not server.repos["model", "them/games"].private


THEIRS = {
    "a card written by hand": {"README.md": b"---\nlicense: mit\n---\n# My years of work"},
    "another model": {"config.json": b'{"model_type": "bert"}'},
    "a card that is too long to be one": {"README.md": b"---\nlicense: mit\n---\n" + b"x" * 1_000_000},
}


@pytest.mark.parametrize("what", THEIRS)
def test_what_this_command_did_not_write_is_replaced_only_when_asked(server, client, folder, what):
    repo = server.add_repo(REPO_ID)
    repo.add("main", {path: (content, False) for path, content in THEIRS[what].items()}, "by hand")
    outcome = client.send(folder)
    assert outcome.code == 2
    assert "give --overwrite_repo" in outcome.error
    assert repo.titles_of() == ["by hand"]
    assert client.send(folder, overwrite=True).code == 0
    assert repo.files()["README.md"] == CARD.encode()


def test_a_card_edited_on_the_hub_is_not_lost(server, client, folder):
    client.send(folder)
    repo = the_repo(server)
    tree = dict(repo.trees[repo.refs["main"]])
    tree["README.md"] = (tree["README.md"][0].replace(b"# Tiny", b"# Tiny, with thanks to Jane"), False)
    repo.add("main", tree, "on the web page")
    (folder / "config.json").write_text('{"new": 1}')
    outcome = client.send(folder)
    assert outcome.code == 2
    assert "README.md was written or edited by hand" in outcome.error
    assert b"thanks to Jane" in repo.files()["README.md"]


def test_the_empty_card_of_a_new_space_is_no_hindrance(server, client, folder):
    template = (
        "---\ntitle: Tiny\nsdk: gradio\n---\n\nCheck out the configuration reference at https://hub.example/docs\n"
    )
    repo = server.add_repo(REPO_ID)
    repo.add("main", {"README.md": (template.encode(), False)}, "initial commit")
    assert client.send(folder).code == 0


def test_a_tag_with_the_name_of_a_branch_is_refused(server, client, folder):
    client.send(folder)
    client.send(folder, revision="stable")
    outcome = client.send(folder, tag="stable")
    assert "has a branch stable" in outcome.error


def test_a_version_is_not_named_like_a_branch(server, client, folder):
    repo = server.add_repo(REPO_ID)
    repo.refs["v1"] = repo.refs["main"]
    assert client.send(folder).result["version"] == "v2"


@pytest.mark.parametrize("step", ["preupload", "put"])
def test_a_pause_of_a_day_is_not_taken_by_the_client_either(server, client, folder, step):
    server.fail(step, Fault(status=503, headers={"Retry-After": "86400"}))
    outcome = client.send(folder)
    assert (outcome.code, outcome.waits) == (2, [])
    assert "503" in outcome.error


def test_the_body_of_an_error_is_read_in_part_only(server, client, folder):
    server.fail("commit", Fault(status=400, headers={"Content-Type": "text/plain"}, padding=30_000_000))
    outcome = client.send(folder)
    assert outcome.code == 2
    assert len(outcome.said) < 2000
    assert server.n_bytes_sent < 20_000_000


def test_a_tag_of_another_version_is_refused_before_anything_is_sent(server, client, folder):
    assert client.send(folder, tag="release").result["version"] == "release"
    assert client.send(folder, tag="release").code == 0
    (folder / "config.json").write_text('{"a": 1}')
    outcome = client.send(folder, tag="release")
    assert outcome.code == 2
    assert "another version with the tag release" in outcome.error
    assert the_repo(server).titles_of() == ["Upload"]


def test_a_version_that_lost_its_tag_on_the_way_gets_it_the_next_time(server, client, folder):
    server.fail("tag", *[Fault(status=503)] * 6)
    assert client.send(folder).code == 2
    assert the_repo(server).tags == {}
    assert sent_once(server, client.send(folder))


def test_a_branch_is_made_and_committed_to_and_main_stays(server, client, folder):
    server.fail("branch", Fault(lose_answer=True))
    outcome = client.send(folder, revision="dev/new")
    repo = the_repo(server)
    assert outcome.code == 0, outcome.said
    assert repo.titles_of() == ["Upload"]
    assert set(repo.files("dev/new")) > SENT
    assert set(repo.files("main")) == {".gitattributes"}
    assert (repo.tags, outcome.result["version"]) == ({}, None)


def test_a_tag_is_no_branch(server, client, folder):
    client.send(folder)
    outcome = client.send(folder, revision="v1")
    assert outcome.code == 2
    assert "is a tag" in outcome.error


def test_a_pull_request_leaves_main_alone_and_is_opened_once(server, client, folder):
    server.add_repo("them/games", private=False)
    repo = server.repos["model", "them/games"]
    for fault in (Fault(lose_answer=True), Fault()):
        server.fail("commit", fault)
        outcome = client.send(folder, repo_id="them/games", create_pr=True, public=True)
        assert outcome.code == 2 or outcome.result["revision"] == "refs/pr/1", outcome.said
    assert set(repo.refs) == {"main", "refs/pr/1"}
    assert set(repo.files("refs/pr/1")) > SENT
    assert repo.titles_of() == ["Upload"]
    assert outcome.result["url"] == f"{server.endpoint}/them/games/discussions/1"


def test_a_pull_request_that_was_closed_is_opened_anew(server, client, folder):
    server.add_repo("them/games", private=False)
    repo = server.repos["model", "them/games"]

    def send():
        return client.send(folder, repo_id="them/games", create_pr=True, public=True).result["revision"]

    assert [send(), send()] == ["refs/pr/1"] * 2
    repo.closed = {1}
    assert [send(), send()] == ["refs/pr/2"] * 2
    repo.closed = {1, 2}
    assert send() == "refs/pr/3"
    repo.has_discussions = False
    assert send() == "refs/pr/3"


def test_what_arrives_changed_is_noticed(server, client, folder):
    server.tampered = {"config.json"}
    outcome = client.send(folder)
    assert outcome.code == 2
    assert "1 of 3 files differ, among them config.json" in outcome.error
    assert the_repo(server).tags == {}


def test_metadata_that_the_hub_refuses_makes_no_repository(server, client, folder):
    (folder / "README.md").write_text("---\nlicense: my-own\n---\n")
    outcome = client.send(folder)
    assert outcome.code == 2
    assert "does not know the licence 'my-own'" in outcome.error
    assert not server.repos


def test_checksums_are_those_of_git_and_lfs(tmp_path):
    from memevit.hub.remote import LocalFile

    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    local = LocalFile.of(path)
    assert local.git_sha1 == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert local.git_sha1 == git_sha1(b"hello\n")
    assert local.sha256 == files.sha256_of(path)
    assert json.dumps(local.size) == "6"
