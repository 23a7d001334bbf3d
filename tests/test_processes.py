"""Worker processes: order, errors, events, and above all that ending them at any moment ends the wait for them."""

import contextlib
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from serkit.errors import MissingExtra, RunFailed, SerkitError
from serkit.processes import WorkerDied, _Hand, here_or_in_processes, in_processes, tell

SOURCES = Path(__file__).parents[1] / "src"


class _Awkward(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def _work(task):
    what, value = task
    tell((what, os.getpid()))
    match what:
        case "wait":
            time.sleep(value)
        case "raise":
            raise value
        case "missing":
            raise MissingExtra("ray", "ray", "a cluster")
        case "awkward":
            raise _Awkward(1, 2)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "large":
            return np.zeros(value, np.uint8)
        case "unsendable":
            return lambda: None
    return value


def _refuse():
    raise SerkitError("no such model")


def _square(x):
    return x * x


def _alive():
    return [child for child in multiprocessing.active_children() if child.is_alive()]


def _held(_):
    time.sleep(0.3)  # so that the other process has the other task
    return os.getpid(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_ctrl_c_reaches_no_worker_from_its_first_moment_on():
    """Asked in a new program: the first worker is the one that multiprocessing starts its own helper with."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_processes import _held\n"
        "from serkit.processes import in_processes\n"
        "if __name__ == '__main__':\n"
        "    found = dict(in_processes(_held, range(2), jobs=2))\n"
        "    print(len(found), all(found.values()))\n"
    )
    paths = os.pathsep.join((str(SOURCES), str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.stdout == "2 True\n", done.stderr


def test_results_come_in_order_or_as_they_come():
    tasks = [("wait", 0.6), ("wait", 0.0), ("give", 7), ("give", 8)]
    heard = []
    assert list(in_processes(_work, tasks, jobs=2, listener=heard.append)) == [0.6, 0.0, 7, 8]
    assert [what for what, _ in sorted(heard)] == ["give", "give", "wait", "wait"]
    assert 1 <= len({pid for _, pid in heard}) <= 2  # the second may come too late to find work
    assert sorted(in_processes(_work, tasks, jobs=2, ordered=False)) == [0.0, 0.6, 7, 8]
    with contextlib.closing(in_processes(_work, [("wait", 20.0), ("give", 1)], jobs=2, ordered=False)) as found:
        assert next(found) == 1
    assert list(in_processes(_square, [], jobs=2)) == []
    assert _alive() == []


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def endless():
        for k in range(10**9):
            taken.append(k)
            yield k

    with contextlib.closing(in_processes(_square, endless(), jobs=2, ahead=3)) as found:
        assert [next(found) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(taken) == 2 * 3 + 5
    assert _alive() == []


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (("raise", SerkitError("a wrong word")), SerkitError, "^a wrong word$"),
        (("missing", 0), SerkitError, "pip install"),
        (("raise", KeyError("where")), KeyError, "where"),
        (("raise", EOFError("half a file")), EOFError, "half a file"),
        (("raise", BrokenPipeError(32, "a pipe of its own")), BrokenPipeError, "a pipe of its own"),
        (("awkward", 0), RunFailed, "_Awkward: 1 and 2"),
        (("unsendable", 0), Exception, "pickle"),
    ],
)  # fmt: skip
def test_an_error_keeps_its_type_and_comes_in_its_turn(task, kind, message):
    found = in_processes(_work, [("give", 1), task, ("give", 3)], jobs=1)
    assert next(found) == 1
    with pytest.raises(kind, match=message) as told:
        next(found)
    if not isinstance(told.value, SerkitError):
        assert "in a worker process:" in "".join(getattr(told.value, "__notes__", []))
    assert _alive() == []


def test_a_beginning_that_fails_is_told():
    with pytest.raises(SerkitError, match=r"^no such model$"):
        list(in_processes(_square, [1, 2], jobs=2, begin=_refuse))
    assert _alive() == []


def _made():
    return {"pid": os.getpid(), "asked": 0}


def _asked(made, task):
    made["asked"] += 1
    time.sleep(0.05)
    return made["pid"], made["asked"], task


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_process_makes_what_it_answers_by_once(jobs):
    found = list(here_or_in_processes(_made, _asked, range(6), jobs))
    assert [task for *_, task in found] == list(range(6))
    last = {pid: asked for pid, asked, _ in found}
    assert sum(last.values()) == 6, "counted in what was made, which no task makes anew"
    assert (os.getpid() in last) == (jobs == 1)
    assert list(here_or_in_processes(_refuse, _asked, (), jobs)) == [], "nothing to ask: nothing is made"


def test_the_task_of_a_dead_process_is_known():
    found = in_processes(_work, [("give", 1), ("die", 2), ("give", 3)], jobs=2)
    assert next(found) == 1
    with pytest.raises(WorkerDied, match="SIGKILL"):
        next(found)
    assert _alive() == []


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="no /proc")
def test_a_process_that_is_killed_in_the_middle_of_its_answer_is_a_dead_one():
    """The first half of a message is on its way and the rest will never come."""
    found = in_processes(_work, [("large", 400_000_000), ("give", 1)], jobs=1)
    watcher = subprocess.Popen(
        [sys.executable, "-c", KILL_WRITER, str(os.getpid())], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "watching\n"  # before there is anything to read
    with pytest.raises(WorkerDied):
        next(found)
    assert "killed" in watcher.communicate(timeout=60)[0]


KILL_WRITER = """
import os, signal, sys, time

def read_so_far():
    return int(open(f"/proc/{sys.argv[1]}/io").read().split("rchar: ")[1].split()[0])

before = read_so_far()
print("watching", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    if read_so_far() < before + 50_000_000:
        continue
    for task in os.listdir(f"/proc/{sys.argv[1]}/task"):
        for pid in open(f"/proc/{sys.argv[1]}/task/{task}/children").read().split():
            if int(pid) != os.getpid() and "spawn_main" in open(f"/proc/{pid}/cmdline").read():
                os.kill(int(pid), signal.SIGKILL)
                print("killed")
                sys.exit()
"""


LARGE = """
import contextlib, sys
import numpy as np
from serkit.processes import in_processes
def large(k):
    return np.full(3_000_000, k, np.uint8)
if __name__ == "__main__":
    with contextlib.closing(in_processes(large, iter(range(10**6)), jobs=2)) as found:
        for k, _ in enumerate(found):
            print(k, flush=True)
"""


@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_ctrl_c_between_large_results_ends_at_once(tmp_path, times):
    script = tmp_path / "large.py"
    script.write_text(LARGE)
    env = {**os.environ, "PYTHONPATH": str(SOURCES)}
    for k in range(times):
        run = subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        assert run.stdout is not None
        while not run.stdout.readline().startswith("3"):
            pass
        time.sleep(0.003 * k)
        run.send_signal(signal.SIGINT)
        shown = run.communicate(timeout=60)[1]
        assert shown.rstrip().endswith("KeyboardInterrupt"), shown
        assert run.returncode in (130, -signal.SIGINT)


def test_a_script_that_starts_processes_as_it_is_imported_is_told_so(tmp_path):
    """It was told that a worker process died."""
    script = tmp_path / "script.py"
    script.write_text("from serkit.processes import in_processes\nprint(list(in_processes(abs, [-1], jobs=1)))\n")
    env = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "serkit.processes.WorkerDied: a worker process could not start, and its error is above; it imports the script "
        "that starts it, in which that has to stand below if __name__ == '__main__':"
    )


def test_a_worker_that_ends_during_its_work_died():
    """It was told that its script has to be below ``if __name__ == '__main__':``."""
    with pytest.raises(WorkerDied, match=r"^a worker process died$"):
        list(in_processes(os._exit, [1], jobs=1))


def test_a_worker_that_is_never_asked_leaves_without_a_word(capfd):
    """Its task cannot be pickled, and what it said of itself is not read."""
    hand = _Hand(queue.SimpleQueue(), queue.SimpleQueue(), (None, abs))
    hand.start()
    hand._given.put((0, lambda: None))
    assert hand._told.get(timeout=30)[1] == "failed"
    assert hand._conn.poll(30)
    hand._given.put(None)
    hand.join(30)
    assert capfd.readouterr().err == ""
