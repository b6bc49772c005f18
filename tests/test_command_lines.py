"""Every command of both programs: explained, with an example that is right, completed by shells."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import typer
import typer.main
from typer.testing import CliRunner

import pipelines.cli
import rtmo.cli
from tests.conftest import ROOT

PROGRAMS = {"rtmo": rtmo.cli.app, "rtmo-pipeline": pipelines.cli.app}


def walk(command, words):
    """Every command below, with the words that call it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for name, one in below.items():
        yield from walk(one, (*words, name))


COMMANDS = {
    words: command
    for program, app in PROGRAMS.items()
    for words, command in walk(typer.main.get_command(app), (program,))
}
PREFIXES = sorted(COMMANDS, key=len, reverse=True)
EXAMPLES = [
    example
    for command in COMMANDS.values()
    for example in re.findall(r"Example: (.+)", command.epilog or "")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_says_what_it_does_and_what_each_option_means(words):
    shown = CliRunner().invoke(PROGRAMS[words[0]], [*words[1:], "--help"])
    assert shown.exit_code == 0
    assert "Usage" in shown.output
    assert COMMANDS[words].help
    unexplained = [p.name for p in COMMANDS[words].params if not getattr(p, "help", None)]
    assert unexplained == []


def test_rtmo_has_an_example_for_every_command():
    missing = [words for words, c in COMMANDS.items() if words[0] == "rtmo" and not c.epilog]
    assert missing == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_names_a_command_and_options_that_there_are(example):
    program, name, *arguments = shlex.split(example)
    command = COMMANDS[program, name]
    command.make_context(name, arguments)  # raises what a person would be told


def written_commands():
    """Commands of ours and make's on lines of their own in README and pages: (page, command)."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        ours = r"(?m)^(?: {4})?((?:rtmo|rtmo-pipeline|make) [a-z].*)$"
        for command in re.findall(ours, page.read_text()):
            yield page.name, command.partition(" #")[0]


@pytest.mark.parametrize(("page", "command"), list(written_commands()))
def test_a_command_on_a_page_can_be_typed(page, command, repository):
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (repository / "Makefile").read_text())
        assert set(arguments) <= set(targets)
        return
    typed = (program, *arguments)
    words = next(words for words in PREFIXES if words == typed[: len(words)])
    COMMANDS[words].make_context(words[-1], list(typed[len(words) :]))


def test_the_page_names_every_command_that_speaks_json(repository):
    page = (repository / "docs/command-line.md").read_text()
    paragraph = re.search(r"`--json` prints.*?Progress", page, re.DOTALL)[0]
    speaking = [
        " ".join(words[1:])
        for words, command in COMMANDS.items()
        if any("--json" in parameter.opts for parameter in command.params)
    ]
    named = re.findall(r"`([^`]+)`", paragraph)
    assert sorted(set(named) - {"--json", *PROGRAMS}) == sorted(speaking)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_exit_status_is_documented(program):
    assert "Exit status: 0 done" in CliRunner().invoke(PROGRAMS[program], ["--help"]).output


@pytest.mark.parametrize(
    ("module", "program", "begun", "whole"),
    [
        ("rtmo.cli", "rtmo", "pred", "predict"),
        ("pipelines.cli", "rtmo-pipeline", "ini", "init"),
    ],
)
def test_a_shell_completes_commands(module, program, begun, whole, repository):
    code = f"import {module}; {module}.app(prog_name={program!r})"
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    asked = {variable: "complete_bash", "COMP_WORDS": f"{program} {begun}", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | asked,
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [whole], done.stderr


@pytest.mark.parametrize(
    ("missing", "params", "command", "said", "status"),
    [
        (None, "train: [", "status", "params.yaml", 1),
        (".dvc", "seed: 0", "status", "not inside of a DVC repository", 1),
        ("dvc.yaml", "seed: 0", "status", "no dvc.yaml in", 2),
        (None, "seed: 0", "run nosuch", "no stage 'nosuch' in dvc.yaml; it has draw", 2),
    ],
)
def test_what_cannot_be_used_is_one_message(missing, params, command, said, status, tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {draw: {cmd: 'true', params: [seed]}}")
    (tmp_path / "params.yaml").write_text(params)
    for start in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(start, cwd=tmp_path, check=True)
    if missing == ".dvc":
        shutil.rmtree(tmp_path / ".dvc")
    elif missing:
        (tmp_path / missing).unlink()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *command.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) < 12


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ({}, "it has no list `images`"),
        ({"images": [{"id": 1}]}, "it has no list `annotations`"),
        ({"images": [{}], "annotations": []}, "an entry of `images` has no `id`"),
        ({"images": [{"id": 1}], "annotations": [{"id": 1}]}, "has no `image_id`"),
        ({"images": [{"id": 1}], "annotations": []}, "annotates nobody"),
    ],
)
def test_an_annotation_file_that_is_none_is_one_message(truth, said, tmp_path, capsys, monkeypatch):
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text("[]")
    files = ["--annotations", "truth.json", "--detections", "found.json"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rtmo", "evaluate", *files])
    with pytest.raises(SystemExit) as ended:
        rtmo.cli.main()
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", "").split())
