"""Each text format to hosts and slots, and what is said about text that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.errors import ConfigError
from launch.discovery import sources
from launch.discovery.hosts import HostSlots, NoHosts, merge, parse_host, split_number
from launch.discovery.reading import Source, ask, detect
from launch.discovery.sources import host_lines, lsb_hosts, lsb_mcpu_hosts, slot_lines, slurm


def plain(hosts: tuple[HostSlots, ...]) -> dict[str, int]:
    return {one.host: one.slots for one in hosts}


def test_every_way_to_write_a_line() -> None:
    text = """\ufeff# our hosts
a
b:3\r
  c slots=4   # four cards
d\tslots=2 max_slots=4

gpu[01-02,07],login:8
[fe80::1%eth0]:2
[2001:DB8:0::1]
job-worker-0.job.default.svc:1
"""
    assert plain(host_lines(text, "hosts", default_slots=5)) == {
        "a": 5,
        "b": 3,
        "c": 4,
        "d": 2,
        "gpu01": 8,
        "gpu02": 8,
        "gpu07": 8,
        "login": 8,
        "fe80::1%eth0": 2,
        "2001:db8::1": 5,
        "job-worker-0.job.default.svc": 1,
    }


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a b", "expected HOST, HOST:SLOTS or HOST slots=N, found 'b' after 'a'"),
        ("echo a:2", "found 'a:2' after 'echo'"),
        ("a 4", "found '4' after 'a'"),
        ("a:two", "expected slots as a number from 0 to 65535, found 'two'"),
        ("a:", "expected slots as a number from 0 to 65535, found ''"),
        ("a:-1", "found '-1'"),
        ("a:65536", "found '65536'"),
        ("a:²", "expected slots as a number"),
        ("a slots=", "expected slots as a number"),
        ("a slot=2", "found 'slot=2' after 'a'"),
        ("a:2 slots=3", "slots are given twice"),
        (":2", "'' is no host name"),
        ("-oProxyCommand=x:2", "'-oProxyCommand=x' is no host name"),
        ("user@a", "'user@a' is no host name"),
        ("a;reboot", "is no host name"),
        ("<html>", "is no host name"),
        ("fe80::1", "an IPv6 address goes in brackets"),
        ("[fe80::g]:2", "'[fe80::g]' is no IPv6 address in brackets"),
        ("[fe80::1%$x]:2", "is no IPv6 address in brackets"),
        ("gpu[03-01]", "expected a range as in 01-03, found '03-01'"),
        ("gpu[1-99999999]", "more than 65536 nodes"),
    ],
)
def test_a_bad_line_is_named(line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        host_lines(f"good:1\n\n{line}\n", "hosts.txt")
    assert str(caught.value).startswith("hosts.txt:3: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\n"])
def test_no_host_is_an_error_of_its_own(text: str) -> None:
    with pytest.raises(NoHosts, match=r"hosts\.txt: names no host"):
        host_lines(text, "hosts.txt")


def test_a_host_named_twice_has_the_slots_of_both_at_its_first_place() -> None:
    assert host_lines("b:1\na:2\nb:3\n", "x") == (HostSlots("b", 4), HostSlots("a", 2))


def test_a_line_for_each_slot() -> None:
    assert plain(slot_lines("n1\nn1\nn2\nn1\n", "nodes")) == {"n1": 3, "n2": 1}
    with pytest.raises(ConfigError, match="nodes:2: expected one host name a line"):
        slot_lines("n1\nn2 4\n", "nodes")


def test_lsf_variables() -> None:
    assert plain(lsb_hosts("b a b b")) == {"b": 3, "a": 1}
    assert plain(lsb_mcpu_hosts("b 2 a 10 b 1")) == {"b": 3, "a": 10}
    with pytest.raises(ConfigError, match=r"LSB_MCPU_HOSTS: expected HOST SLOTS HOST SLOTS \.\.\., found 3 words"):
        lsb_mcpu_hosts("b 2 a")
    with pytest.raises(ConfigError, match="LSB_MCPU_HOSTS: expected slots as a number"):
        lsb_mcpu_hosts("b a")


NODES = {"SLURM_JOB_NODELIST": "gpu[01-03],login1"}


@pytest.mark.parametrize(
    ("environment", "slots", "expected"),
    [
        ({}, None, [1, 1, 1, 1]),
        ({"SLURM_TASKS_PER_NODE": "4(x3),2"}, None, [4, 4, 4, 2]),
        ({"SLURM_TASKS_PER_NODE": "1(x4)", "SLURM_GPUS_ON_NODE": "8"}, None, [8, 8, 8, 8]),
        ({"SLURM_TASKS_PER_NODE": "2(x4)", "SLURM_GPUS_ON_NODE": "8", "SLURM_NTASKS": "8"}, None, [2, 2, 2, 2]),
        ({"SLURM_TASKS_PER_NODE": "4(x4)", "SLURM_GPUS_ON_NODE": "8"}, 3, [3, 3, 3, 3]),
    ],
)
def test_slots_of_a_slurm_allocation(environment: dict[str, str], slots: int | None, expected: list[int]) -> None:
    found = slurm({**NODES, **environment}, slots)
    assert [one.host for one in found] == ["gpu01", "gpu02", "gpu03", "login1"]
    assert [one.slots for one in found] == expected


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "SLURM_NODELIST: is not set: run inside an allocation"),
        ({"SLURM_JOB_NODELIST": "gpu[1-"}, "SLURM_JOB_NODELIST: brackets do not match"),
        ({"SLURM_JOB_NODELIST": "gpu 1"}, "SLURM_JOB_NODELIST: 'gpu 1' is no host name"),
        ({**NODES, "SLURM_TASKS_PER_NODE": "4(x2),3"}, "'4(x2),3' is for 3 nodes, SLURM_JOB_NODELIST has 4"),
        ({**NODES, "SLURM_TASKS_PER_NODE": "4x2"}, "SLURM_TASKS_PER_NODE: expected counts as in 4(x2),3"),
        ({**NODES, "SLURM_GPUS_ON_NODE": "gpu:4"}, "SLURM_GPUS_ON_NODE: expected slots as a number"),
    ],
)
def test_a_slurm_environment_that_makes_no_sense(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        slurm(environment)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"SLURM_JOB_NODELIST": "a", "PBS_NODEFILE": "x"}, "slurm"),
        ({"PBS_NODEFILE": "x"}, "pbs"),
        ({"LSB_HOSTS": "a"}, "lsf"),
    ],
)
def test_the_scheduler_is_found_by_its_environment(environment: dict[str, str], kind: str) -> None:
    assert detect(environment).kind == kind


def test_no_source_at_all() -> None:
    with pytest.raises(ConfigError, match="give --static, --hostfile or --command"):
        detect({"SLURM_JOB_NODELIST": ""})


def test_a_scheduler_without_its_job() -> None:
    for kind, name in (("slurm", "SLURM_NODELIST"), ("pbs", "PBS_NODEFILE"), ("lsf", "LSB_DJOB_HOSTFILE")):
        with pytest.raises(ConfigError, match=f"{name}: is not set: run inside"):
            ask(Source(kind), {}, 1.0)  # type: ignore[arg-type]


NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,6}[a-z0-9]", fullmatch=True)
ADDRESSES = st.ip_addresses(v=6).map(str)


@given(st.lists(st.builds(HostSlots, NAMES | ADDRESSES, st.integers(0, 9)), min_size=1))
def test_what_is_written_is_read_back(hosts: list[HostSlots]) -> None:
    assert host_lines("\n".join(map(str, hosts)), "x") == merge(hosts)
    assert sum(one.slots for one in merge(hosts)) == sum(one.slots for one in hosts)


@given(st.text(alphabet=st.sampled_from("ab[]:#=-,.%0129 \t\n\rslots²\u2028\x00")))
def test_any_text_is_hosts_or_a_plain_error(text: str) -> None:
    for read in (host_lines, slot_lines, sources.lsb_hosts, sources.lsb_mcpu_hosts):
        try:
            found = read(text, "x")
        except ConfigError as error:
            said = str(error)
        else:
            said = "x: ok"
            assert found
            assert len({one.host for one in found}) == len(found)
            for one in found:
                name, count = split_number(str(one))
                assert (parse_host(name), count) == (one.host, str(one.slots))
        assert said.startswith("x:")
        assert "\n" not in said
