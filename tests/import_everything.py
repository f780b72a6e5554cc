"""Import every command and every module of the package: with requirements.txt alone, too.

python -m tests.import_everything
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import memevit

ROOT = Path(__file__).parents[1]


def names():
    """The commands, then the modules of the package."""
    modules = pkgutil.walk_packages(memevit.__path__, "memevit.")
    return [*sorted(path.stem for path in ROOT.glob("*.py")), *sorted(module.name for module in modules)]


if __name__ == "__main__":
    for name in names():
        importlib.import_module(name)
    sys.stdout.write(f"{len(names())} modules imported\n")
