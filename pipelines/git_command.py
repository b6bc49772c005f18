"""Git commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path


class GitError(RuntimeError):
    """Git cannot do what is needed; the message says what to do."""


def git(folder: Path, *arguments: str, remedy: str = "") -> str:
    """Standard output of a git command; it never waits for somebody to type.

    Args:
        folder: checkout or worktree in which it runs.
        arguments: of git.
        remedy: what a person can do if it fails.

    Raises:
        GitError: if it fails, or git is not there.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise GitError("there is no git on this machine") from None
    if done.returncode:
        words = without_credentials(done.stderr.strip())
        raise GitError(f"`git {arguments[0]}` failed: {words}" + (f"; {remedy}" if remedy else ""))
    return done.stdout.strip()


def without_credentials(text: str) -> str:
    """Git repeats the address of a remote, which may hold a password.

    Example:
        >>> without_credentials("unable to access 'https://me:secret@host/x.git/'")
        "unable to access 'https://***@host/x.git/'"
    """
    return re.sub(r"//[^/@\s]+@", "//***@", text)
