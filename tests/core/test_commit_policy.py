"""What `--commit` can say, and that what it cannot say is told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.commit_policy import CommitPolicy, Rhythm, Seconds, Steps, parse_policy
from ft_horovod.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "memory", "disk"),
    [
        ("auto", "auto", "auto"),
        (" Auto ", "auto", "auto"),
        ("off", "off", "off"),
        ("every-step", Steps(1), "auto"),
        ("disk=60s", "auto", Seconds(60)),
        ("disk=60 s", "auto", Seconds(60)),
        ("memory=1,disk=5m", Steps(1), Seconds(300)),
        ("memory = every-step, disk = 5min", Steps(1), Seconds(300)),
        ("disk=1h,memory=off", "off", Seconds(3600)),
        ("disk=1.5h", "auto", Seconds(5400)),
        ("disk=500ms", "auto", Seconds(0.5)),
        ("disk=1d", "auto", Seconds(86_400)),
        ("memory=200,disk=auto", Steps(200), "auto"),
        ("memory=1step,disk=200 steps", Steps(1), Steps(200)),
    ],
)
def test_what_can_be_said(text: str, memory: Rhythm, disk: Rhythm) -> None:
    assert parse_policy(text) == CommitPolicy(memory, disk)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'' means nothing here: expected auto, off, every-step, or tiers as in memory=1,disk=5m"),
        ("atuo", "'atuo' means nothing here, did you mean auto?"),
        ("every step", "'every step' means nothing here, did you mean every-step?"),
        ("60s", "60s of which tier? For example disk=60s"),
        ("5", "5 of which tier? For example disk=5"),
        ("auto,disk=60s", "auto stands alone: expected auto, off"),
        ("disk=60s,", "'' means nothing here"),
        ("disk", "'disk' means nothing here"),
        ("disc=60s", "there is no tier 'disc', did you mean disk?"),
        ("tape=60s", "there is no tier 'tape', expected memory or disk"),
        ("peers=1", "peers: live peers hold every step at no cost; name memory or disk"),
        ("disk=60s,disk=5m", "disk is there twice"),
        ("disk=", "disk=: expected steps (1, 200), a time (500ms, 60s, 5m, 1h), auto or off"),
        ("disk=-5s", "disk=-5s: expected steps"),
        ("disk=1e5s", "disk=1e5s: expected steps"),
        ("disk=1=2", "disk=1=2: expected steps"),
        ("disk=0", "disk=0: never is disk=off"),
        ("disk=0s", "disk=0s: never is disk=off"),
        ("memory=1.5", "memory=1.5: 1.5 steps? A time needs its unit, as in 1.5s"),
        ("disk=5x", "disk=5x: no unit 'x', expected ms, s, m, min, h, d or steps"),
        ("disk=99999999999", "disk=99999999999: more than 1e+09"),
        ("disk=\x1b[31m", "disk=\\x1b[31m: expected steps"),
    ],
)
def test_what_cannot_be_said(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_policy(text)
    assert str(error.value).startswith(f"--commit: {expected}")


rhythms = st.one_of(
    st.sampled_from(["auto", "off"]),
    st.builds(Steps, st.integers(1, 10**9)),
    st.builds(Seconds, st.floats(1e-7, 1e9)),
)


@given(rhythms, rhythms)
def test_a_policy_as_text_is_read_as_itself(memory: Rhythm, disk: Rhythm) -> None:
    policy = CommitPolicy(memory, disk)
    assert parse_policy(str(policy)) == policy


@given(st.text(alphabet="adeikmorstuy=,.0123456789- \n", max_size=30))
def test_any_text_is_a_policy_or_an_error_of_one_line(text: str) -> None:
    policy, problem = read(text)
    if policy is None:
        assert problem.startswith("--commit: ")
        assert "\n" not in problem
    else:
        assert parse_policy(str(policy)) == policy


def read(text: str) -> tuple[CommitPolicy | None, str]:
    try:
        return parse_policy(text), ""
    except ConfigError as error:
        return None, str(error)
