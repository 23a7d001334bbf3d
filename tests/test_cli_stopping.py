"""Commands that are stopped, or out of disk: one line, the right exit code, nothing lost."""

import copy
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import ask
from serkit import __main__, cli
from serkit.errors import DiskFull, RunFailed, SerkitError

# ---------------------------------------------------------------- main(): exit codes and the one line


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (SerkitError("wrong input"), 2, "serkit: wrong input\n"),
        (RunFailed("it failed"), 1, "serkit: it failed\n"),
        (OSError(28, "No space left on device", "/data/x"), 1, "serkit: No space left on device: /data/x\n"),
        (OSError(27, "File too large"), 1, "serkit: File too large\n"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "serkit: Permission denied: /root/x"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "/x/y"), 1, "serkit: Too many levels of symb"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/xxx"), 1, "serkit: File name too long: /xxx"),
        (KeyboardInterrupt(), 130, "serkit: stopped\n"),
    ],
)
def test_errors_become_a_line_and_a_code(monkeypatch, capsys, raised, code, said):
    def fail():
        raise raised

    monkeypatch.setattr("serkit.listing.recipes", fail)
    monkeypatch.setattr(sys, "argv", ["serkit", "recipes"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    shown = capsys.readouterr().err
    assert shown.startswith(said), shown
    assert len(shown.splitlines()) == 1


def exit_code(monkeypatch, folder, words, called, instead):
    """How the command line ends in a folder where something else stands in for what it calls."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(called, instead)
    monkeypatch.setattr(sys, "argv", ["serkit", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.parametrize(
    ("words", "called", "kept"),
    [
        (["run", "toy", "--corpus", "toy"], "serkit.recipe.load_recipe", True),
        (["cv", "toy", "--corpus", "toy"], "serkit.recipe.load_recipe", True),
        (["ablate", "toy", "--corpus", "toy"], "serkit.recipe.load_recipe", True),
        (["extract", "run"], "serkit.pipeline.extract_run", True),
        (["train", "run"], "serkit.pipeline.train_run", True),
        (["report", "run"], "serkit.pipeline.report_run", False),
        (["bundle", "run", "-o", "out"], "serkit.serving.building.build", False),
        (["adapt", "a.wav", "-o", "out"], "serkit.serving.gathering.gather", False),
        (["predict", "a.wav", "--out", "a.json"], "serkit.serving.predicting.predict", False),
    ],
)
def test_only_a_command_that_goes_on_says_so_after_ctrl_c(monkeypatch, capsys, finished, tmp_path, words, called, kept):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "run").symlink_to(finished)
    assert exit_code(monkeypatch, tmp_path, words, called, stopped) == 130
    more = "; run the same command again to resume" if kept else ""
    assert capsys.readouterr().err == f"serkit: stopped{more}\n"


@pytest.mark.parametrize("raised", [OSError(28, "No space left", "/data/x"), DiskFull("the disk is full")], ids=repr)
@pytest.mark.parametrize(
    ("words", "called", "kept"),
    [
        (["extract", "run"], "serkit.pipeline.extract_run", True),
        (["report", "run"], "serkit.pipeline.report_run", False),
        (["bundle", "run", "-o", "out"], "serkit.serving.building.build", False),
    ],
)
def test_only_a_command_that_goes_on_says_so_of_a_full_disk(
    monkeypatch, capsys, finished, tmp_path, words, called, kept, raised
):
    def full(*_, **__):
        raise copy.copy(raised)

    (tmp_path / "run").symlink_to(finished)
    assert exit_code(monkeypatch, tmp_path, words, called, full) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.endswith("; finished work is kept\n") == kept, said
    assert ("kept" in said) == kept


def test_an_error_of_our_own_making_is_not_hidden(monkeypatch):
    monkeypatch.setattr("serkit.listing.recipes", lambda: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["serkit", "recipes"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_what_the_terminal_cannot_show_is_written_out():
    """Regression: a name that is not UTF-8, or a letter that the locale has not, was a traceback."""
    code = """
import sys
from serkit import cli, listing
listing.recipes = lambda: print("J\\xf6rg \\udcf6", flush=True) or []
sys.argv = ["serkit", "recipes"]
cli.main()
"""
    for encoding, shown in (("ascii", b"J\\xf6rg \\udcf6\n"), ("utf-8", b"J\xc3\xb6rg \\udcf6\n")):
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(shown)


def test_ctrl_c_before_a_command_is_known_is_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.main.get_command", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "serkit: stopped\n"


def command(recipe, toy_root, tmp_path, jobs):
    where = ["--root", toy_root, "--out", tmp_path / "run", "--store", tmp_path / "store", "--jobs", jobs]
    return [sys.executable, "-m", "serkit", "run", recipe, "--corpus", "toy", *where, "--device", "cpu"]


@pytest.mark.parametrize(("stage", "jobs"), [
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (("extract", 1), ("train", 1), ("extract", 2))),
    ("train", 2),
])  # fmt: skip
def test_ctrl_c_is_one_line_130_and_resumable(recipe, toy_root, tmp_path, stage, jobs):
    """SIGINT to the whole process group, as a terminal sends it."""
    words = [str(w) for w in command(recipe, toy_root, tmp_path, jobs)]
    log = tmp_path / "log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [*words, "--set", "train.epochs=100"], stdout=said, stderr=said, start_new_session=True
        )
        wanted = stage if stage == "train" else "to extract"
        limit = time.monotonic() + 90
        while wanted not in log.read_text() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(0.7)
        try:
            os.killpg(process.pid, signal.SIGINT)
            code = process.wait(timeout=60)
        finally:
            process.kill()
    shown = log.read_text()
    # where the signal met code that a library runs while it is imported, Python ends by that signal itself: a shell
    # shows 130 for both
    assert code in (130, -signal.SIGINT), shown
    assert "Traceback" not in shown, shown
    assert shown.splitlines()[-1] == "serkit: stopped; run the same command again to resume"
    assert shown.count("stopped") == 1
    assert (tmp_path / "run" / "manifest.jsonl").is_file()


def test_ctrl_c_while_the_program_is_still_loading_is_one_line():
    """The signal comes in the middle of the first import of the command line."""
    code = """
import os, signal, sys
from serkit import __main__ as door
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "serkit.commands":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
door.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "serkit: stopped; nothing was started\n"


@pytest.mark.parametrize("place", ["sys.setprofile(entered)", "cli._kept = sent"], ids=["entered", "left"])
def test_ctrl_c_where_no_command_is_at_work_is_no_traceback(place):
    """As the command line is entered, and as it says its last word."""
    code = f"""
import os, signal, sys
from serkit import __main__ as door, cli
def sent(*_):
    os.kill(os.getpid(), signal.SIGINT)
    return ""
def entered(frame, event, arg):
    if event == "call" and frame.f_code is cli.main.__code__:
        sys.setprofile(None)
        sent()
{place}
sys.argv = ["serkit", "audit", "no/such/folder"]
door.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 130, done
    assert len(done.stderr.splitlines()) <= 1, done.stderr


@pytest.mark.parametrize(
    "moments_s", [(2.0,), pytest.param([1.0 + 0.4 * k for k in range(20)], marks=pytest.mark.slow)],
    ids=["one", "twenty"],
)  # fmt: skip
def test_ctrl_c_at_any_moment_is_one_line_and_loses_nothing(recipe, toy_root, tmp_path, finished, moments_s):
    """Each run goes on where the last one was stopped."""
    words = [str(w) for w in command(recipe, toy_root, tmp_path, 1)]
    begin = "print('begun', flush=True); from serkit.__main__ import main; main()"  # before it, Python itself starts
    for moment in moments_s:
        process = subprocess.Popen(
            [sys.executable, "-c", begin, *words[3:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            shown, _ = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            shown, _ = process.communicate(timeout=60)
            assert "Traceback" not in shown, shown
            if shown.splitlines()[-1].startswith("report: "):
                continue  # it had said its last word before the signal came
            assert process.returncode in (130, -signal.SIGINT), shown
            assert re.match(r"serkit: stopped(; .+)?$", shown.splitlines()[-1]), shown
    code, _, said = ask(*words[3:])
    assert code == 0, said
    whole, resumed = (json.loads((f / "report" / "report.json").read_text()) for f in (finished, tmp_path / "run"))
    assert resumed["systems"] == whole["systems"], "the same numbers as a run that nobody stopped"


@pytest.mark.parametrize("kib", [160, *(pytest.param(k, marks=pytest.mark.slow) for k in (4, 40))])
def test_a_disk_that_fills_is_one_line_and_nothing_is_lost(recipe, toy_root, tmp_path, kib):
    """A limit on the size of files stands in for the disk: 4 KiB hold no manifest, 40 no shard, 160 no network."""
    more = ["--set", "train.epochs=2", "--set", "model.hidden=64"]
    words = " ".join(f"'{w}'" for w in [*command(recipe, toy_root, tmp_path, 1), *more])
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    full = subprocess.run(
        ["bash", "-c", f"ulimit -f {kib}; exec {words}"],
        capture_output=True, text=True, timeout=200, check=False, env=env,
    )  # fmt: skip
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith("serkit: the disk is full (File too large) while writing "), last
    where = {4: r"/run/manifest\.jsonl", 40: "features under /.*", 160: r"/run/systems/.*/state\.pt"}[kib]
    assert re.search(where, last), last
    assert re.search("finished .* kept", last), last
    assert "free some space" in last
    assert not list((tmp_path / "run").rglob("*.part"))
    code, _, said = ask(*command(recipe, toy_root, tmp_path, 1)[3:], *more)
    assert code == 0, said


def test_a_killed_worker_leaves_nobody_behind(recipe, toy_root, tmp_path):
    """kill -9 of the parent while two processes train: they end too."""
    words = [str(w) for w in command(recipe, toy_root, tmp_path, 2)]
    with (tmp_path / "log").open("w") as said:
        process = subprocess.Popen([*words, "--set", "train.epochs=500"], stderr=said, start_new_session=True)
        limit = time.monotonic() + 90
        while not list((tmp_path / "run").rglob("state.pt")) and time.monotonic() < limit:
            time.sleep(0.1)
        process.kill()
        process.wait()
    limit = time.monotonic() + 60
    while _alive(process.pid) and time.monotonic() < limit:
        time.sleep(0.2)
    assert not _alive(process.pid)


def _alive(group: int) -> list[int]:
    """Processes of a group, from /proc; none where there is no /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_a_standard_stream_that_the_caller_closed_is_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """``serkit predict - <&-`` and ``>&-`` were tracebacks, and the next file that was opened took their number."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    __main__.open_streams()
    opened = (sys.stdin, sys.stdout, sys.stderr)
    assert opened[0].buffer.read() == b""
    assert opened[1].write("dropped") == 7
    assert all(os.get_inheritable(stream.fileno()) for stream in opened)
    for stream in opened:
        stream.close()
