"""What `lambent up` gives its children, without starting any."""

import pytest

from lambent.up import _MODELS, _environment


@pytest.mark.parametrize("part", list(_MODELS))
def test_a_shell_s_access_key_stays_in_the_shell(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be set, and no part is given it: functions run beside the workers."""
    for name in ("LAMBENT_KEY", "LAMBENT_ENDPOINT", "LAMBENT_LOG_LEVEL", "OTHER"):
        monkeypatch.setenv(name, "debug")
    given = _environment(_MODELS[part])
    assert given.keys() >= {"LAMBENT_LOG_LEVEL", "OTHER"}
    assert not given.keys() & {"LAMBENT_KEY", "LAMBENT_ENDPOINT"}
