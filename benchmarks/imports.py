"""How long the light doors take: ``import serkit``, and the command line up to its help.

Run: ``python benchmarks/imports.py [--repeat N]``. Goal: ``import serkit`` in < 0.3 s, and no torch,
scikit-learn or transformers behind any of the doors. Exits 1 where one of them is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

HEAVY = ("torch", "sklearn", "scipy", "transformers", "pyarrow", "matplotlib", "pandas", "soundfile")
_CLI = "from typer.testing import CliRunner; from serkit.cli import app; CliRunner().invoke"
DOORS = {
    "import serkit": "import serkit",
    "import serkit.cli": "import serkit.cli",
    "import serkit.types": "import serkit.types",
    "import serkit.recipe": "import serkit.recipe",
    "serkit --help": f"{_CLI}(app, ['--help'])",
    "serkit recipes": f"{_CLI}(app, ['recipes'])",
}


def measure(code: str, repeat: int) -> tuple[float, list[str], int]:
    """Median seconds of a fresh interpreter above an empty one, heavy packages it loaded, number of modules."""
    loaded = f"import sys, json; print(json.dumps([[m for m in {HEAVY!r} if m in sys.modules], len(sys.modules)]))"
    seconds, empty, printed = [], [], ""
    for _ in range(repeat):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        empty.append(time.perf_counter() - began)
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", f"{code}\n{loaded}"], check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - began)
        printed = done.stdout.splitlines()[-1]
    heavy, n_modules = json.loads(printed)
    return sorted(seconds)[repeat // 2] - sorted(empty)[repeat // 2], heavy, n_modules


def main() -> int:
    """Print one line for each door."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    failed = False
    print(f"{'':22}{'seconds':>9}{'modules':>9}  heavy packages")
    for name, code in DOORS.items():
        seconds, heavy, n_modules = measure(code, repeat)
        failed = failed or bool(heavy)
        print(f"{name:22}{seconds:9.3f}{n_modules:9}  {', '.join(heavy) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
