"""Keys: live only while enabled, editable, none of Slicer's own."""

from __future__ import annotations

import pytest

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DSlicerLib.Shortcuts import DEFAULTS, SETTINGS_PREFIX, Shortcuts


class Settings(dict):
    def value(self, key, default):
        return self.get(key, default)

    def setValue(self, key, value):
        self[key] = value


def test_shortcuts_live_only_while_enabled_and_can_be_changed():
    live, settings = {}, Settings()
    keys = Shortcuts(settings, lambda key, f: live.setdefault(key, f) and key, lambda key: live.pop(key))
    assert live == {}
    calls = []
    keys.enable({action: (lambda a=action: calls.append(a)) for action in DEFAULTS})
    assert len(live) == len(DEFAULTS) == len(set(live))
    live["A"]()
    assert calls == ["point"]
    keys.setKey("point", "G")
    assert "G" in live
    assert "A" not in live
    with pytest.raises(FastSAM3DError, match="key of 'Point tool'"):
        keys.setKey("box", "g")
    keys.setKey("reset", "")
    assert "Shift+R" not in live
    keys.disable()
    assert live == {}
    again = Shortcuts(settings, lambda key, f: key, lambda key: None)
    assert again.key("point") == "G"
    again.restoreDefaults()
    assert again.key("point") == "A"


def test_no_default_key_is_one_that_slicer_uses_itself():
    taken = {"del", "backspace", "s", "p", "ctrl+z", "ctrl+y", "ctrl+s", "return", "enter"}
    assert not taken & {key.lower() for key, _ in DEFAULTS.values()}


@pytest.mark.parametrize("key", ["Return", "enter", "Shift+Return", "Ctrl+Enter", "A, Return"])
def test_what_ends_an_entry_in_a_text_field_is_refused(key):
    live, settings = [], Settings()
    keys = Shortcuts(settings, lambda key, f: live.append(key) or key, lambda key: live.remove(key))
    keys.enable({"accept": print})
    with pytest.raises(FastSAM3DError, match=r"^.*ends an entry in every text field; choose another key\.$"):
        keys.setKey("accept", key)
    assert live == [keys.key("accept")] == ["K"]
    assert settings == {}


def test_a_return_that_an_earlier_version_remembered_is_forgotten():
    keys = Shortcuts(Settings({SETTINGS_PREFIX + "accept": "Return"}), lambda key, f: key, lambda key: None)
    assert keys.key("accept") == "K"


def test_a_key_that_the_browser_app_has_too_does_the_same_there():
    from FastSAM3DWeb.tools import shortcuts

    same = {"point": "positive", "next": "next_segment"}
    web = {key: what.split(":")[1] for key, what in shortcuts().items()}
    for action, (key, _) in DEFAULTS.items():
        assert web.get(key.lower(), same.get(action, action)) == same.get(action, action), key
