"""Publish a model folder on the Hugging Face Hub, so that anybody can use it by its name.

    python push_to_hub.py --model model/ --repo_id USER/NAME --dry_run
    python push_to_hub.py --model model/ --repo_id USER/NAME --dataset prepared/
    python push_to_hub.py --model model/ --repo_id USER/NAME --public --space
    python push_to_hub.py --model model/ --repo_id USER/NAME --dataset prepared/ --onnx --space static
    python push_to_hub.py --model model/ --html images.html

The page is assembled, loaded and compared with the model before anything is sent, then fetched from the Hub and
compared again. Private unless --public, which opens the page last. The token is that of `hf auth login` or HF_TOKEN.
Running the command again with nothing changed changes nothing.

--html needs neither token nor Hub: it writes one file that classifies images in any browser, offline, and sorts them
into a zip. --onnx adds the model for JavaScript. --html, --onnx and --space static need
pip install -r requirements-web.txt.
"""

import logging

from memevit import cli
from memevit.arguments import PushArguments

logger = logging.getLogger(__name__)


def main(args: PushArguments) -> None:
    """Check everything, then publish the dataset, the model and the Space, as far as they are asked for."""
    if args.html:
        from memevit.commands import web_page

        n_bytes = web_page.write_html(
            args.model, args.html, title=args.title, sentence=args.description, runtime=args.web_runtime
        )
        logger.info("%s (%.1f MB) opens in any browser; nothing else is needed", args.html, n_bytes / 1e6)
        return

    from memevit.commands import publish  # Takes a second to import, and --help does not need it.

    publish.publish_model(args)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, PushArguments, doc=__doc__))
