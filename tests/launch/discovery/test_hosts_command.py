"""`ft-horovod hosts` and the script it writes, as real processes; and Horovod's own reader over that script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIMIT_S = 50.0
SCHEDULERS = ("SLURM_", "PBS_", "LSB_")
HERE = {name: value for name, value in os.environ.items() if not name.startswith(SCHEDULERS)}


def hosts(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return called([sys.executable, "-m", "launch.discover", *arguments], folder, **environment)


def called(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**HERE, **environment}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=folder, env=environment
    )


def test_lines_and_nothing_else_on_standard_output(tmp_path: Path) -> None:
    done = hosts(tmp_path, "--command", "echo a:2; echo b; echo noise >&2", "--slots", "3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a:2\nb:3\n", "noise\n")


def test_the_scheduler_around_us(tmp_path: Path) -> None:
    done = hosts(tmp_path, SLURM_JOB_NODELIST="n[1-2]", SLURM_TASKS_PER_NODE="4(x2)")
    assert (done.returncode, done.stdout) == (0, "n1:4\nn2:4\n")
    (tmp_path / "nodes").write_text("n1\nn1\nn2\n")
    assert hosts(tmp_path, PBS_NODEFILE=str(tmp_path / "nodes")).stdout == "n1:2\nn2:1\n"
    assert hosts(tmp_path, LSB_MCPU_HOSTS="n1 2 n2 1").stdout == "n1:2\nn2:1\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "no source of hosts: give --static, --hostfile or --command"),
        (["--static", "hosts", "--pbs"], "one source of hosts, not 2: static 'hosts' and pbs"),
        (["--static", "hosts"], "hosts: cannot be read: No such file or directory"),
        (["--command", "./none"], "command './none': exit 127"),
        (["--command", "sleep 1000", "--limit", "0.3"], "command 'sleep 1000': did not end within 0.3 s"),
        (["--command", "echo [::1]:2"], "horovodrun cannot read the address ::1: give the host a name"),
        (["--exclude", "a"], "give --state DIR"),
        (["--exclude", "a b", "--state", "s"], "--exclude: 'a b' is no host name"),
        (["--report-failure", "a:x", "--state", "s"], "--report-failure: expected a slot as a number"),
        (["--static", "hosts", "--script", "no/such/place"], "no/such/place: cannot be written: No such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, arguments: list[str], problem: str) -> None:
    done = hosts(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    said = [line for line in done.stderr.splitlines() if not line.startswith("/bin/sh")]
    assert len(said) == 1
    assert problem in said[0]


@pytest.mark.parametrize("flag", [["--limit", "nan"], ["--limit", "61"], ["--cooldown", "-1"], ["--slots", "0"]])
def test_numbers_that_make_no_sense(tmp_path: Path, flag: list[str]) -> None:
    assert hosts(tmp_path, "--command", "echo a", *flag).returncode == 2


def test_json_says_what_is_left_out_and_why(tmp_path: Path) -> None:
    lines = ["--command", "echo a:2; echo [::1]:2", "--state", "state", "--json"]
    done = hosts(tmp_path, *lines, "--report-failure", "a:1", "--exclude", "[::1]", "--cooldown", "inf")
    answer = json.loads(done.stdout)
    assert answer["hosts"] == [{"host": "a", "slots": 1}]
    assert answer["out"] == [
        {"host": "a", "slots": 1, "reason": "a worker died", "until_s": None},
        {"host": "::1", "slots": 2, "reason": "excluded by an operator", "until_s": None},
    ]
    assert json.loads(hosts(tmp_path, *lines, "--readmit", "a", "--readmit", "[::1]").stdout)["out"] == []


def test_the_script_says_the_same_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "it's").mkdir()
    (tmp_path / "it's" / "hosts").write_text("a:2\nb:2\n")
    script = tmp_path / "it's" / "discover"
    for _ in range(2):  # one of ours may be replaced
        done = hosts(tmp_path, "--static", "it's/hosts", "--script", "it's/discover", "--exclude", "b")
        assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "launch.py").write_text("raise SystemExit('not ours')\n")
    assert called([str(script)], Path("/")).stdout == "a:2\n"
    assert called(["./it's/discover"], tmp_path, PYTHONPATH=str(tmp_path), PYTHONHOME="/nowhere").stdout == "a:2\n"
    hosts(Path("/"), "--readmit", "b", "--state", f"{script}.state")
    assert called([str(script)], tmp_path).stdout == "a:2\nb:2\n"  # --exclude was done once
    (tmp_path / "it's" / "hosts").unlink()
    later = called([str(script)], tmp_path)
    assert (later.returncode, later.stdout) == (0, "a:2\nb:2\n")
    assert "going on with the last good answer" in later.stderr


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text("precious\n")
    done = hosts(tmp_path, "--command", "echo a", "--script", "train.sh")
    assert done.returncode == 2
    assert "train.sh: is there already" in done.stderr
    assert (tmp_path / "train.sh").read_text() == "precious\n"


def test_sigterm_ends_the_command_too(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "launch.discover", "--limit", "60"]
    command += ["--command", f"echo started > {pipe}; exec sleep 1000"]
    with subprocess.Popen(command, env=HERE, stdout=subprocess.PIPE) as process:
        try:
            assert pipe.read_text() == "started\n"
            process.terminate()
            assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
        finally:
            process.kill()
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        assert process.stdout.read() == b""  # closed: nobody holds it


def test_a_state_that_does_not_answer_ends_the_call(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.mkfifo(tmp_path / "state" / "ledger.json")
    begun = time.monotonic()
    done = hosts(tmp_path, "--command", "echo a", "--state", "state", "--limit", "0.1")
    assert done.returncode == 70
    assert "did not end in time" in done.stderr
    assert time.monotonic() - begun < LIMIT_S / 2


HOROVODS_READER = """
import json, sys
from horovod.runner.elastic.discovery import HostDiscoveryScript, HostManager

def call(manager):
    try:
        result = manager.update_available_hosts()
    except RuntimeError as error:
        return str(error)
    hosts = manager.current_hosts
    return [result, {host: hosts.get_slots(host) for host in hosts.host_assignment_order}]

if __name__ == "__main__":
    script, file = sys.argv[1:]
    manager = HostManager(HostDiscoveryScript(script, 1))
    told = [call(manager)]
    for text in ("a:2\\nb:2\\nc\\n", "rubbish here\\n", "c\\nb:2\\n"):
        open(file, "w").write(text)
        told.append(call(manager))
    print(json.dumps(told))
"""


def test_horovods_own_reader_takes_it(tmp_path: Path) -> None:
    """Horovod says 0 for no update, 1 for removed, 2 for added."""
    (tmp_path / "hosts").write_text("a:2\nb:2\n")
    (tmp_path / "reader.py").write_text(HOROVODS_READER)
    hosts(tmp_path, "--static", "hosts", "--script", "discover")
    arguments = [str(tmp_path / "discover"), str(tmp_path / "hosts")]
    done = called([sys.executable, "-W", "ignore", "reader.py", *arguments], tmp_path)
    assert done.returncode == 0, done.stderr
    first, more, rubbish, fewer = json.loads(done.stdout)
    assert first == [2, {"a": 2, "b": 2}]
    assert more == [2, {"a": 2, "b": 2, "c": 1}]
    assert rubbish == [0, {"a": 2, "b": 2, "c": 1}]
    assert fewer == [1, {"b": 2, "c": 1}]
    assert "hosts:1: expected HOST, HOST:SLOTS or HOST slots=N" in done.stderr


def test_horovods_own_reader_hears_of_a_source_that_never_worked(tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text(HOROVODS_READER)
    hosts(tmp_path, "--static", "hosts", "--script", "discover")
    arguments = [str(tmp_path / "discover"), str(tmp_path / "hosts")]
    done = called([sys.executable, "-W", "ignore", "reader.py", *arguments], tmp_path)
    assert "Exit code: 2" in json.loads(done.stdout)[0]
    assert f"{tmp_path / 'hosts'}: cannot be read: No such file or directory" in done.stderr
