"""Web pages that come in place of a file: Google Drive's confirmation form, quota and errors.

For a file too large for its virus scan, Drive answers with a page whose form `download-form` leads
to the file by its hidden fields. Once too many people have fetched a file, it answers with a page
that says so, for about a day. Both are recognised by what they hold, not by the address.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

from rtmo.fetch.remote import FetchError

LARGEST_PAGE = 1 << 20
"""Bytes; what follows is not read."""
FORM_IDS = ("download-form", "downloadForm")
CAPTIONS = ("uc-error-caption", "uc-error-subcaption", "uc-warning-caption")
GOOGLE_HOSTS = (".google.com", ".googleusercontent.com")
QUOTA_SIGNS = ("quota exceeded", "too many users have viewed or downloaded")


def is_web_page(response: httpx.Response) -> bool:
    """Whether the answer is a page for a browser."""
    return bool(response.headers.get("content-type", "").startswith("text/html"))


def confirmation_address(response: httpx.Response) -> str:
    """Where the form of a confirmation page leads.

    Raises:
        FetchError: with what the page says, if it holds no such form or leads elsewhere.
    """
    page = _read(response)
    if page.action is None:
        raise FetchError(_refusal(page))
    address = response.url.join(page.action)
    if address.host != response.url.host and not address.host.endswith(GOOGLE_HOSTS):
        raise FetchError(f"asks for a confirmation that leads to another server, {address.host}")
    return str(address.copy_merge_params(page.fields))


def words_of(response: httpx.Response) -> str:
    """What a page says, in one line."""
    return _refusal(_read(response))


@dataclass(slots=True)
class _Page:
    title: str = ""
    captions: list[str] = field(default_factory=list)
    action: str | None = None
    fields: dict[str, str] = field(default_factory=dict)


class _Parser(HTMLParser):
    """Collects the title, Drive's captions and its form."""

    def __init__(self) -> None:
        super().__init__()
        self.page = _Page()
        self._reading: str | None = None
        self._is_in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "title":
            self._reading = tag
        elif values.get("class") in CAPTIONS:
            self._reading = tag
            self.page.captions.append("")
        elif tag == "form" and values.get("id") in FORM_IDS:
            self.page.action = values.get("action", "")
            self._is_in_form = True
        elif tag == "input" and self._is_in_form and values.get("type") == "hidden":
            self.page.fields[values.get("name", "")] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._reading:
            self._reading = None
        if tag == "form":
            self._is_in_form = False

    def handle_data(self, data: str) -> None:
        if self._reading == "title":
            self.page.title += data
        elif self._reading is not None:
            self.page.captions[-1] += data


def _read(response: httpx.Response) -> _Page:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > LARGEST_PAGE:
            break
    parser = _Parser()
    parser.feed(content[:LARGEST_PAGE].decode(errors="replace"))
    return parser.page


def _refusal(page: _Page) -> str:
    words = ": ".join(" ".join(part.split()) for part in (page.title, *page.captions) if part)
    if any(sign in words.lower() for sign in QUOTA_SIGNS):
        return (
            f"Google Drive's quota for this file is used up ({words}); it is usually there again "
            "after a day, and a browser that is logged in often gets it at once"
        )
    return f"answers with a web page ({words or 'without a title'}) in place of the file"
