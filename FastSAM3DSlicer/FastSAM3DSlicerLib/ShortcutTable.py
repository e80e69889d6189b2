"""The panel's list of keyboard shortcuts, editable in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from FastSAM3DCore.errors import FastSAM3DError

from .Shortcuts import DEFAULTS, Shortcuts


class ShortcutTable:
    """Fills a two-column table and takes over what the user types into it.

    Args:
        table: a QTableWidget.
        shortcuts: the keys.
        makeItem: makes a table item of a text that can be edited, or cannot.
        normalised: the key sequence that a text means, empty if it means none.
        say: shows one line to the user.
    """

    def __init__(
        self,
        table: Any,
        shortcuts: Shortcuts,
        makeItem: Callable[[str, bool], Any],
        normalised: Callable[[str], str],
        say: Callable[[str], None],
    ):
        self._table, self._shortcuts, self._makeItem = table, shortcuts, makeItem
        self._normalised, self._say = normalised, say
        self._filling = False
        self.fill()
        table.cellChanged.connect(self._onEdited)

    def fill(self) -> None:
        """Show the keys as they are."""
        self._filling = True
        self._table.setRowCount(len(DEFAULTS))
        for row, (action, (_key, text)) in enumerate(DEFAULTS.items()):
            self._table.setItem(row, 0, self._makeItem(text, False))
            self._table.setItem(row, 1, self._makeItem(self._shortcuts.key(action), True))
        self._filling = False

    def restoreDefaults(self) -> None:
        self._shortcuts.restoreDefaults()
        self.fill()

    def _onEdited(self, row: int, column: int) -> None:
        if self._filling or column != 1:
            return
        text = self._table.item(row, 1).text().strip()
        key = self._normalised(text)
        try:
            if text and not key:
                raise FastSAM3DError(f"{text!r} is not a key; type for example G or Shift+G.")
            self._shortcuts.setKey(list(DEFAULTS)[row], key)
        except FastSAM3DError as error:
            self._say(str(error))
        self.fill()
