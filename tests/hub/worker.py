"""A process with the real Hub client: HF_ENDPOINT and its like are read once, when the client is imported.

Reads one job as JSON per line of standard input and answers with one line of JSON. A job is a command line of
push_to_hub.py, or Python code that sets `result`. Both ways of sending large files are tried in one process, which
spares the second import: the client looks at HF_HUB_DISABLE_XET when it is imported, and at its own constant after.
"""

import contextlib
import io
import json
import logging
import os
import sys
import traceback

from huggingface_hub import constants

from tests.conftest import guard_connections, run_script


def main() -> None:
    import push_to_hub
    from memevit.arguments import PushArguments
    from memevit.errors import UserError
    from memevit.hub import retry

    guard_connections()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        job = json.loads(line)
        os.environ["HF_TOKEN"] = job["token"]  # An empty one counts as none.
        constants.HF_HUB_DISABLE_XET = not job["xet"]
        os.chdir(job["folder"])
        logging.getLogger().handlers.clear()  # So that the log goes where stderr goes now.
        waits, said, found = [], io.StringIO(), {"code": 1}
        retry.DEFAULT = retry.Patience(sleep=waits.append)
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                if "push" in job:
                    found = {"code": run_script(push_to_hub, *job["push"], groups=(PushArguments,))}
                else:
                    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=said)
                    names = {}
                    exec(job["code"], names)
                    found = {"code": 0, "result": names.get("result")}
            except UserError as error:
                found = {"code": 2}
                sys.stderr.write(f"error: {error}\n")
            except Exception:
                traceback.print_exc()
        answers.write(json.dumps(found | {"said": said.getvalue(), "waits": waits}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
