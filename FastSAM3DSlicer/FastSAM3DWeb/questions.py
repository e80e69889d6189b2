"""Asks on the page before something that nothing brings back."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Questions"]


class Questions:
    """One question at a time. Writes `state.question`, None or {"title", "text", "yes"}."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._answer: asyncio.Future[bool] | None = None

    async def ask(self, title: str, text: str, yes: str) -> bool:
        """Show a dialog and wait for the person; an older question counts as answered with no.

        Args:
            title, text: what is at stake.
            yes: what the button says that goes on.
        """
        self.answer(False)
        self._answer = asyncio.get_running_loop().create_future()
        with self._state:
            self._state.question = {"title": title, "text": text, "yes": yes}
        return await self._answer

    def answer(self, yes: bool) -> None:
        """The person has decided, in whichever tab."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(yes)
        with self._state:
            self._state.question = None
