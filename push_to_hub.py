"""Publish a model folder on the Hugging Face Hub, so that anybody can use it by its name.

    python push_to_hub.py --model model/ --repo_id USER/NAME --dry_run
    python push_to_hub.py --model model/ --repo_id USER/NAME --dataset prepared/
    python push_to_hub.py --model model/ --repo_id USER/NAME --public --space

The page is assembled, loaded and compared with the model before anything is sent, then fetched from the Hub and
compared again. Private unless --public, which opens the page last. The token is that of `hf auth login` or HF_TOKEN.
Running the command again with nothing changed changes nothing.
"""

from memevit import cli
from memevit.arguments import PushArguments


def main(args: PushArguments) -> None:
    """Check everything, then publish the dataset, the model and the Space, as far as they are asked for."""
    from memevit.commands import publish  # Takes a second to import, and --help does not need it.

    publish.publish_model(args)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, PushArguments, doc=__doc__))
