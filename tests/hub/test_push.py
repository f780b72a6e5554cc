"""push_to_hub.py against a Hub of our own, through the unpatched client."""

from tests.hub.conftest import REPO_ID


def test_a_first_push_makes_one_private_repository_with_one_commit_and_a_tag(server, lfs_client, model_dir):
    outcome = lfs_client.push("--model", model_dir, "--repo_id", REPO_ID)
    assert outcome.code == 0, outcome.said
    print(outcome)
    print(server.steps())
