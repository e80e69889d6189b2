"""One file over HTTP(S) or from a disk, resumed where it broke off."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import requests

from .. import __version__
from ..errors import OutputError, WeightsError
from .files import CHUNK, Progress, make_folder, output_error, part_state

__all__ = ["Transfer", "fetch", "name_in_url"]

CONNECT_SECONDS = 15.0
STALL_SECONDS = 60.0
LONGEST_PAUSE = 30.0
NETWORK_CHUNK = 1 << 14
"""A broken connection loses what arrived of the current chunk, so chunks are small."""

ATTEMPTS = 5
"""Attempts in a row without a single new byte before an address is given up."""

TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
SHA256_HEADER = "X-Linked-ETag"
"""Hugging Face states a file's SHA-256 in this header of its own answer, before the redirect to the storage."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A finished transfer.

    Attributes:
        url: the address that answered.
        announced_sha256: digest that the server stated, or None. It guards against damage, not against fraud.
        resumed: whether the file was put together from several answers.
    """

    url: str
    announced_sha256: str | None
    resumed: bool


@dataclass(slots=True)
class PartState:
    """What is known about the file that a partial download belongs to; kept beside it between runs."""

    url: str = ""
    validator: str = ""
    total: int | None = None
    sha256: str | None = None


class IncompleteTransferError(Exception):
    """Trying again may help; never leaves this module.

    Attributes:
        pause: seconds that the server asked to wait.
    """

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


def fetch(url: str, part: Path, progress: Progress, *, attempts: int = ATTEMPTS, backoff: float = 1.0) -> Transfer:
    """Complete `part` with the contents of `url`.

    What is already in `part` is continued if the server still offers the same file and can continue; otherwise
    it starts again. Proxies and certificates come from the environment, as `requests` reads them.

    Args:
        url: http, https or file address.
        part: partial file; a small `.json` beside it remembers what it is part of.
        progress: told bytes done and bytes in all.
        attempts: how many attempts in a row may bring nothing new.
        backoff: first pause between attempts in seconds; doubles each time.

    Raises:
        WeightsError: the address does not offer the file, or the connection keeps failing.
        OutputError: `part` cannot be written, or the disk is too small.
    """
    make_folder(part.parent)
    if urlsplit(url).scheme == "file":
        copy_file(Path(url2pathname(unquote(urlsplit(url).path))), part, progress)
        return Transfer(url, None, resumed=False)
    if read_state(part).url != url:
        discard(part)  # another address may hold another file under the same name
    best, failures, resumed = part_size(part), 0, part_size(part) > 0
    while True:
        try:
            return Transfer(url, request_rest(url, part, progress).sha256, resumed)
        except IncompleteTransferError as error:
            failures = 0 if part_size(part) > best else failures + 1
            best, resumed = max(best, part_size(part)), True
            if failures >= attempts:
                raise WeightsError(
                    f"{url}: the connection keeps failing ({error}); try again later, set HTTPS_PROXY if this "
                    "network needs a proxy, or use --mirror or 'weights import'."
                ) from error
            time.sleep(min(LONGEST_PAUSE, max(error.pause, backoff * 2**failures)))


def request_rest(url: str, part: Path, progress: Progress) -> PartState:
    """One request, with the exceptions of `requests` sorted into passing and lasting ones."""
    try:
        with requests.Session() as session:
            return stream(session, url, part, read_state(part), progress)
    except requests.exceptions.SSLError as error:
        raise WeightsError(
            f"{url}: the server's certificate was not accepted ({reason_of(error)}); behind an inspecting proxy, "
            "point REQUESTS_CA_BUNDLE to its certificate."
        ) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise IncompleteTransferError(reason_of(error)) from error
    except requests.RequestException as error:
        raise WeightsError(f"{url} cannot be fetched ({reason_of(error)}); check the address.") from error


def stream(session: requests.Session, url: str, part: Path, state: PartState, progress: Progress) -> PartState:
    """One request: continue `part`, or start it again, to the end of the answer."""
    offset = part_size(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": f"fastsam3d/{__version__}"}
    if offset and (state.validator or state.total):
        headers["Range"] = f"bytes={offset}-"
        if state.validator:
            headers["If-Range"] = state.validator
    with session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return finish_or_restart(answer, part, state)
        refuse_unusable(answer, url)
        new = state_of(answer, url)
        start, new.total = extent_of(answer)
        if start != offset or (start and not same_file(state, new)):
            discard(part)
            if start:
                raise IncompleteTransferError("the server continued another file, or at another place")
        check_space(part, new.total)
        write_state(part, new)
        append(answer.iter_content(NETWORK_CHUNK), part, new.total, progress, restart=start == 0)
    size = part_size(part)
    if new.total is not None and size < new.total:
        raise IncompleteTransferError(f"{size} of {new.total} bytes arrived")
    return new


def refuse_unusable(answer: requests.Response, url: str) -> None:
    """Raise for every answer that is not the file.

    Raises:
        IncompleteTransferError: a passing condition.
        WeightsError: a lasting one.
    """
    status = answer.status_code
    if status in TRANSIENT_STATUS:
        pause = answer.headers.get("Retry-After", "")
        seconds = float(pause) if pause.isdigit() else 0.0
        raise IncompleteTransferError(f"the server answered {status} {answer.reason}", seconds)
    if status not in (requests.codes.ok, requests.codes.partial):
        raise WeightsError(f"{url}: the server answered {status} {answer.reason}; try --mirror or 'weights import'.")
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise WeightsError(
            f"{url}: the server answered with a web page instead of the file, perhaps the login page of a proxy; "
            "log in, or use --mirror or 'weights import'."
        )


def same_file(before: PartState, now: PartState) -> bool:
    """Whether two answers can be about the same file."""
    totals = {before.total, now.total} - {None}
    validators = {before.validator, now.validator} - {""}
    return len(totals) <= 1 and len(validators) <= 1


def finish_or_restart(answer: requests.Response, part: Path, state: PartState) -> PartState:
    """The server has nothing past the end of `part`: it is complete, or of another file."""
    total = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    if total and int(total[1]) == part_size(part) == state.total:
        return state
    discard(part)
    raise IncompleteTransferError("the partial file did not fit the server's")


def extent_of(answer: requests.Response) -> tuple[int, int | None]:
    """First byte of an answer and the size of the whole file."""
    if answer.status_code == requests.codes.partial:
        extent = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if extent is None:
            raise IncompleteTransferError("the server did not say which part it sent")
        return int(extent[1]), None if extent[2] == "*" else int(extent[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def state_of(answer: requests.Response, url: str) -> PartState:
    """What this answer says about the file: a validator to resume with, and its digest if stated."""
    etag = answer.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    sha256 = None
    for each in (*answer.history, answer):
        stated = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64})"?', each.headers.get(SHA256_HEADER, ""))
        sha256 = stated[1] if stated else sha256
    return PartState(url, validator, None, sha256)


def append(chunks: Iterator[bytes], part: Path, total: int | None, progress: Progress, *, restart: bool) -> None:
    """Write what arrives; the file never grows past its stated size."""
    try:
        with part.open("wb" if restart else "ab") as file:
            done = file.tell()
            progress(done, total)
            for chunk in chunks:
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
            file.flush()
    except requests.RequestException:
        raise  # a subclass of OSError: what arrived is kept, and continued
    except OSError as error:
        discard(part)  # a full disk must not stay full
        raise output_error(part, error) from error


def copy_file(source: Path, part: Path, progress: Progress) -> None:
    """The same for a file: address."""
    try:
        total = source.stat().st_size
        file = source.open("rb")
    except OSError as error:
        raise WeightsError(f"{source} cannot be read ({error.strerror}); check the path.") from error
    check_space(part, total)
    with file:
        append(iter(lambda: file.read(CHUNK), b""), part, total, progress, restart=True)


def check_space(part: Path, total: int | None) -> None:
    """Refuse before writing what cannot fit.

    Raises:
        OutputError: the disk has less free space than the rest of the file needs.
    """
    needed = (total or 0) - part_size(part)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OutputError(
            f"{part.parent} has {free // 10**6} MB free, the download needs {needed // 10**6} MB; free some space "
            "or set FASTSAM3D_CACHE to another disk."
        )


def part_size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def read_state(part: Path) -> PartState:
    """What was remembered about a partial file; nothing if it cannot be read."""
    try:
        return PartState(**json.loads(part_state(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return PartState()


def write_state(part: Path, state: PartState) -> None:
    try:
        part_state(part).write_text(json.dumps(asdict(state)), encoding="utf-8")
    except OSError as error:
        raise output_error(part_state(part), error) from error


def discard(part: Path) -> None:
    """Delete a partial file and what is remembered about it.

    Raises:
        OutputError: it cannot be deleted, so nothing else may be written in its place.
    """
    for path in (part, part_state(part)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(path, error) from error


def name_in_url(url: str) -> str:
    """The file name at the end of an address."""
    return unquote(urlsplit(url).path).rsplit("/", 1)[-1]


def reason_of(error: Exception) -> str:
    """The innermost cause of a chain of networking errors, in one line."""
    cause: BaseException = error
    while True:
        inner = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
        if not isinstance(inner, BaseException) or inner is cause:
            break
        cause = inner
    text = next(iter(str(cause).strip().splitlines()), "")
    return (text or type(cause).__name__)[:160]
