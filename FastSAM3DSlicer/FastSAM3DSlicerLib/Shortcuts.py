"""Keyboard shortcuts: which action has which key, remembered per user, no two the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from FastSAM3DCore.errors import FastSAM3DError

SETTINGS_PREFIX = "FastSAM3D/Shortcuts/"
# A text field takes letters before a shortcut of the window does, but not these: it would never be told that an entry
# is complete.
ENDS_AN_ENTRY = {"return", "enter"}
# action: (key, what it does). Taken by Slicer itself and therefore not used: Del, Backspace, S, P, Ctrl+Z.
DEFAULTS: dict[str, tuple[str, str]] = {
    "point": ("A", "Point tool"),
    "box": ("B", "Box tool"),
    "scribble": ("C", "Scribble tool"),
    "lasso": ("L", "Lasso tool"),
    "sign": ("T", "Switch between add and remove"),
    "next": ("E", "Next segment"),
    "undo": ("Z", "Undo"),
    "redo": ("Y", "Redo"),
    "reset": ("Shift+R", "Reset the segment"),
    "uncertain": ("U", "Go to the most uncertain slice"),
    "accept": ("K", "Accept the slice and go to the next (slice mode)"),
    "cancel": ("Esc", "Cancel"),
}


def endsAnEntry(key: str) -> bool:
    """Whether a key sequence has Return or Enter in it, with or without Shift and the like."""
    return not ENDS_AN_ENTRY.isdisjoint(re.split(r"[+,\s]+", key.lower()))


def deleteShortcut(shortcut: Any) -> None:
    """End a live QShortcut now; deleteLater alone leaves it working until the next event loop turn."""
    shortcut.setEnabled(False)
    shortcut.setParent(None)
    shortcut.deleteLater()


class Shortcuts:
    """Keys of the actions.

    Args:
        settings: anything with `value(key, default)` and `setValue(key, value)` (QSettings).
        make: makes a live shortcut of a key and a function, and returns it.
        delete: ends a live shortcut.
    """

    def __init__(self, settings: Any, make: Callable[[str, Callable[[], None]], Any], delete: Callable[[Any], None]):
        self._settings, self._make, self._delete = settings, make, delete
        self._live: dict[str, Any] = {}
        self._actions: dict[str, Callable[[], None]] = {}

    def key(self, action: str) -> str:
        """The key of an action; empty if it has none."""
        default = DEFAULTS[action][0]
        key = str(self._settings.value(SETTINGS_PREFIX + action, default))
        return default if endsAnEntry(key) else key  # an earlier version had one

    def setKey(self, action: str, key: str) -> None:
        """Give an action another key (empty: none), from now on and in later sessions.

        Raises:
            FastSAM3DError: another action has it, or text fields need it.
        """
        if endsAnEntry(key):
            raise FastSAM3DError(f"{key} ends an entry in every text field; choose another key.")
        taken = next((a for a in DEFAULTS if a != action and key and self.key(a).lower() == key.lower()), None)
        if taken is not None:
            raise FastSAM3DError(f"{key} is the key of '{DEFAULTS[taken][1]}'; choose another.")
        self._settings.setValue(SETTINGS_PREFIX + action, key)
        if self._actions:
            self.enable(self._actions)

    def restoreDefaults(self) -> None:
        """Every action gets its first key back."""
        for action, (key, _) in DEFAULTS.items():
            self._settings.setValue(SETTINGS_PREFIX + action, key)
        if self._actions:
            self.enable(self._actions)

    def enable(self, actions: dict[str, Callable[[], None]]) -> None:
        """Make the keys live: when the module is entered."""
        self.disable()
        self._actions = actions
        for action, function in actions.items():
            if self.key(action):
                self._live[action] = self._make(self.key(action), function)

    def disable(self) -> None:
        """No key of ours does anything any more: when the module is left."""
        for shortcut in self._live.values():
            self._delete(shortcut)
        self._live, self._actions = {}, {}

    @property
    def live(self) -> dict[str, Any]:
        """The shortcuts that work now."""
        return dict(self._live)
