"""Ctrl-C at moments at which Python alone would break or lose it."""

import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"
BEGIN = "import os, signal, time, serkit.interrupts; serkit.interrupts.postpone_when_unsafe()"
SENT = (  # and tried again meanwhile
    "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\nend = time.monotonic() + 0.2\n"
    "while time.monotonic() < end: pass\n"
)
PLACES = {
    "nowhere special": f"{SENT}\nprint('finished')",
    "import": "import sent\nprint('finished', flush=True)\ntime.sleep(60)",
    "finalizer": "class A:\n    def __del__(self):\n"
    + textwrap.indent(SENT, "        ")
    + "        print('finished', flush=True)\na = A()\ndel a\ntime.sleep(60)",
    "serializer": "from pydantic import BaseModel, model_serializer\nclass A(BaseModel):\n    @model_serializer\n"
    + "    def written(self):\n"
    + textwrap.indent(SENT, "        ")
    + "        return 'finished'\nprint(A().model_dump(mode='json'), flush=True)\ntime.sleep(60)",
    "decoder": "import io, soundfile\nclass A(io.BytesIO):\n    asked = 0\n    def readinto(self, buffer):\n"
    + "        A.asked += 1\n        if A.asked == 1:\n"
    + textwrap.indent(SENT, "            ")
    + "        return super().readinto(buffer)\nheld = io.BytesIO()\n"
    + "soundfile.write(held, [0.1] * 9, 8000, format='WAV')\n"
    + "sound, _ = soundfile.read(A(held.getvalue()))\n"
    + "print('finished' if len(sound) == 9 else 'cut', flush=True)\ntime.sleep(60)",
}


@pytest.mark.parametrize(
    ("place", "finished"),
    [("nowhere special", False), ("import", True), ("finalizer", False), ("serializer", True), ("decoder", True)],
)
def test_it_is_raised_once_and_where_that_is_safe(place, finished, tmp_path):
    (tmp_path / "sent.py").write_text(SENT)
    body = textwrap.indent(PLACES[place], "    ")
    (tmp_path / "main.py").write_text(f"{BEGIN}\ntry:\n{body}\nexcept KeyboardInterrupt:\n    print('stopped')\n")
    run = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    assert run.stdout.replace("\n", "") == ("finished" if finished else "") + "stopped"
    assert run.stderr == ""


def test_other_errors_of_finalizers_are_still_shown(tmp_path):
    script = f"{BEGIN}\nclass A:\n    def __del__(self):\n        1 / 0\na = A()\ndel a\n"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    assert "ZeroDivisionError" in done.stderr


def test_an_archive_is_not_left_in_the_middle_of_a_member(tmp_path, monkeypatch):
    """zipfile cannot close such an archive: its ValueError hid the KeyboardInterrupt, and was shown as a traceback."""
    from serkit.serving import bundle_files

    begun = []

    def compressor(*_):
        if not begun:
            begun.append(True)
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # time for Python to call its handler
                pass

    monkeypatch.setattr(zipfile, "_get_compressor", compressor)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        bundle_files.write_archive({"a": b"1", "b": b"2"}, tmp_path / "x.zip")
    assert begun
    assert signal.getsignal(signal.SIGINT) is before
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == ["a", "b"]
