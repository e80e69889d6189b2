"""A session on a server, behind the same protocol as one in this process. Needs numpy and requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSAM3DError, ImageError, PromptError, RemoteError
from ..prompts import Prompt, as_ijk, as_ijk_list, prompt_from_dict, prompt_to_dict
from ..types import MaskUpdate, ModelIdentity, Volume, VoxelBox
from .connection import Body, Connection, SessionLostError
from .messages import UPDATE_ARRAYS, box_fields, update_from
from .uploads import GEOMETRY_HEADER, geometry_of, volume_pieces
from .wire import Message, pack, unpack

__all__ = ["RemoteSession"]

logger = logging.getLogger(__name__)


class RemoteSession:
    """Interactive segmentation on a server; see `FastSAM3DCore.protocol.SegmentationSession`.

    A session that the server has lost (idle for too long, started again) is opened anew: the scan is sent again
    and the log replayed, so that work goes on from the same mask; undo steps before that are gone.

    Args:
        url: http://HOST:PORT or https://...
        token: the server's key; empty for none.
        timeout: seconds to wait for an answer.

    Raises:
        RemoteError: not an address, nobody answers there, or the key is wrong.
    """

    def __init__(self, url: str, token: str = "", *, timeout: float = 300.0) -> None:
        self._connection = Connection(url, token, timeout)
        self._volume: Volume | None = None
        self._threshold = 0.5
        self._log: dict[int, Prompt] = {}
        self._order: list[int] = []
        self._forget()
        self._id = ""
        self._open()

    # ---- the scan -------------------------------------------------------------------------------------

    @property
    def model(self) -> ModelIdentity:
        """Which weights the server answers with."""
        return self._model

    def set_image(self, volume: Volume) -> None:
        """Start on a scan: send it to the server; forgets mask, prompts and history once the server has taken it."""
        known = self._id
        try:
            state = self._start_on(volume)
        except FastSAM3DError:
            if self._id != known:  # a new session, without the old scan: the next call restores that
                self._abandon()
            raise
        self._volume, self._threshold = volume, 0.5
        self._note(state)

    def close(self) -> None:
        """End the session on the server."""
        if self._id:
            self._connection.notify("DELETE", f"/v1/sessions/{self._id}")
        self._id, self._volume = "", None
        self._forget()

    def cancel(self) -> None:
        """Stop the prompt that runs in another thread; it raises CancelledError. Returns at once."""
        self._tell("POST", f"/v1/sessions/{self._id}/cancel")

    # ---- what is there --------------------------------------------------------------------------------

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The log of prompts in force."""
        return tuple(self._log[key] for key in self._order)

    @property
    def can_undo(self) -> bool:
        return self._can_undo

    @property
    def can_redo(self) -> bool:
        return self._can_redo

    def mask(self, box: VoxelBox | None = None) -> NDArray[np.uint8]:
        """The current mask of `box` or of the whole scan, uint8 {0, 1}, indexed [k, j, i]."""
        return self._call("mask", box=box_fields(box))[1]["array"]

    def probability(self, box: VoxelBox | None = None) -> NDArray[np.float32]:
        """The foreground probability, float32 in [0, 1], indexed [k, j, i]."""
        return self._call("probability", box=box_fields(box))[1]["array"]

    # ---- prompts --------------------------------------------------------------------------------------

    def add_point(self, point_ijk: Sequence[float], positive: bool = True) -> MaskUpdate:
        """A click."""
        return self._ask("add_point", ijk=as_ijk(point_ijk), positive=bool(positive))

    def add_box(self, box: VoxelBox) -> MaskUpdate:
        """A 3D box around the structure, or a one-voxel-thick one around its outline in a slice."""
        return self._ask("add_box", box=box_fields(box))

    def add_scribble(self, points_ijk: Iterable[Sequence[float]], positive: bool = True) -> MaskUpdate:
        """A stroke along a polyline."""
        return self._ask("add_scribble", ijk=as_ijk_list(points_ijk), positive=bool(positive))

    def add_lasso(self, polygon_ijk: Iterable[Sequence[float]], positive: bool = True) -> MaskUpdate:
        """A closed contour in one slice plane."""
        return self._ask("add_lasso", ijk=as_ijk_list(polygon_ijk), positive=bool(positive))

    def set_mask(self, mask_kji: NDArray[Any]) -> MaskUpdate:
        """Replace the mask; sent eight voxels per byte, compressed."""
        mask, shape = np.asarray(mask_kji), self._image().array_kji.shape
        if mask.shape != shape:
            raise PromptError(
                f"The mask has shape {mask.shape} but the scan has {shape} (k, j, i); resample it to the scan first."
            )
        return self._ask("set_mask", {"mask": mask != 0})

    def move_prompt(self, prompt_id: int, point_ijk: Sequence[float]) -> MaskUpdate:
        """Move a point prompt and recompute everything from it on."""
        return self._ask("move_prompt", id=int(prompt_id), ijk=as_ijk(point_ijk))

    def remove_prompt(self, prompt_id: int) -> MaskUpdate:
        """Take a prompt out and recompute everything after it."""
        return self._ask("remove_prompt", id=int(prompt_id))

    def undo(self) -> MaskUpdate:
        """Take back the last change."""
        return self._ask("undo")

    def redo(self) -> MaskUpdate:
        """Apply the last undone change again."""
        return self._ask("redo")

    def reset(self) -> MaskUpdate:
        """Empty mask and prompts; one undo step."""
        return self._ask("reset")

    def set_threshold(self, probability: float) -> MaskUpdate:
        """Voxels above this probability are foreground; not an undo step."""
        update = self._ask("set_threshold", probability=float(probability))
        self._threshold = float(probability)
        return update

    def replay(self, prompts: Iterable[Prompt]) -> MaskUpdate:
        """Reset, then apply a log; one undo step."""
        return self._ask("replay", prompts=[prompt_to_dict(p) for p in prompts])

    # ---- inside ---------------------------------------------------------------------------------------

    def _image(self) -> Volume:
        if self._volume is None:
            raise ImageError("No scan is loaded; call set_image first.")
        return self._volume

    def _ask(self, name: str, arrays: dict[str, NDArray[Any]] | None = None, **fields: Any) -> MaskUpdate:
        return update_from(self._call(name, arrays, **fields))

    def _call(self, name: str, arrays: dict[str, NDArray[Any]] | None = None, **fields: Any) -> Message:
        """One call; opens the session again first if the server has lost it, or may have."""
        self._image()
        if not self._id:
            self._restore()
        try:
            return self._exchange(name, arrays, fields)
        except SessionLostError:
            self._restore()
            return self._exchange(name, arrays, fields)

    def _exchange(self, name: str, arrays: dict[str, NDArray[Any]] | None, fields: dict[str, Any]) -> Message:
        self._number += 1
        body = pack({"call": name, "number": self._number, **fields}, arrays, bits="mask")
        # The number makes a repeated call safe: the server answers it again without carrying it out again.
        message = self._deliver("POST", "calls", body, UPDATE_ARRAYS * self._image().array_kji.size)
        self._note(message[0]["state"])
        return message

    def _deliver(
        self, method: str, path: str, body: Body, maximum_voxels: int, headers: Mapping[str, str] | None = None
    ) -> Message:
        """Send what changes the server's session, twice if the connection breaks; its answer."""
        try:
            url = f"/v1/sessions/{self._id}/{path}"
            answer = self._connection.send(method, url, body, repeat=True, headers=headers)
            return unpack(answer, maximum_voxels=maximum_voxels)
        except SessionLostError:
            raise
        except RemoteError:
            # Whether it was carried out is not known: never go on with that session.
            self._abandon()
            raise

    def _open(self) -> None:
        told = self._connection.send_json("POST", "/v1/sessions", repeat=True)  # one too many expires by itself
        try:
            self._id, self._number = str(told["id"]), 0
            self._model = ModelIdentity(str(told["model"]["name"]), str(told["model"]["sha256"]))
        except (KeyError, TypeError) as error:
            raise RemoteError(f"{self._connection.url} is not a FastSAM3D server; check the address.") from error

    def _start_on(self, volume: Volume) -> dict[str, Any]:
        """Send a scan, to another session if the server has lost this one; the session's state after it."""
        if self._id:
            with suppress(SessionLostError):
                return self._send_volume(volume)
        self._open()
        return self._send_volume(volume)

    def _send_volume(self, volume: Volume) -> dict[str, Any]:
        headers = {GEOMETRY_HEADER: geometry_of(volume)}
        # Refused before any voxel travels, and with the old scan untouched.
        self._connection.send("POST", f"/v1/sessions/{self._id}/volume", repeat=True, headers=headers)
        answer = self._deliver("PUT", "volume", lambda: volume_pieces(volume), 0, headers)
        state: dict[str, Any] = answer[0]["state"]
        return state

    def _restore(self) -> None:
        """The session is gone: another one with the same scan, log and threshold."""
        logger.warning("The server's session was lost; it is opened again and its prompts are replayed.")
        volume, log, order = self._image(), self._log, self._order
        self._id = ""
        self._open()
        try:
            self._note(self._send_volume(volume))
            if order:
                self._exchange("replay", None, {"prompts": [prompt_to_dict(log[key]) for key in order]})
            if self._threshold != 0.5:
                self._exchange("set_threshold", None, {"probability": self._threshold})
        except FastSAM3DError:
            self._abandon()
            self._log, self._order = log, order  # tried again by the next call
            raise

    def _abandon(self) -> None:
        """Leave a session behind whose state is not known; the server may end it at once."""
        self._tell("DELETE", f"/v1/sessions/{self._id}")
        self._id = ""

    def _tell(self, method: str, path: str) -> None:
        """Say something to the server without waiting for it."""
        if self._id:
            threading.Thread(target=self._connection.notify, args=(method, path), daemon=True).start()

    def _forget(self) -> None:
        self._log, self._order = {}, []
        self._can_undo = self._can_redo = False

    def _note(self, state: dict[str, Any]) -> None:
        """The session's state after a call; of the log, only what is new came along."""
        known = self._log
        fresh = {int(key): prompt_from_dict(data) for key, data in state["new"]}
        self._order = [int(key) for key in state["log"]]
        self._log = {key: fresh[key] if key in fresh else known[key] for key in self._order}
        self._can_undo, self._can_redo = bool(state["can_undo"]), bool(state["can_redo"])
