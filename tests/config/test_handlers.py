"""A handler is looked for in its module, which is never run."""

import ast
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parts
from config_project import HEAD, found, project  # noqa: F401
from ordinary_user import as_ordinary_user
from streamfaas.config.rules.handlers import _DYNAMIC as DYNAMIC
from streamfaas.config.rules.handlers import misses


def told(project, source):  # noqa: F811
    (project / "code" / "app.py").write_text(source)
    return [one.partition(" SF1064 functions.f.handler: ")[2] for one in found(HEAD, project)]


@pytest.mark.parametrize(
    "source",
    [
        "def main(event, context): ...",
        "async def main(event, context): ...",
        "class main: ...",
        "main = lambda event, context: event",
        "other, (main, *_) = things",
        "main: object = 1",
        "from elsewhere import main",
        "from elsewhere import handler as main",
        "import main.part",
        "from elsewhere import *",
        "try:\n    import fast\nexcept ImportError:\n    def main(): ...",
        "if True:\n    with x as main: ...",
        "def make():\n    global main\n    main = 1\nmake()",
        "globals()['main'] = 1",
        "def __getattr__(name): ...",
        "import sys\nsetattr(sys.modules[__name__], 'main', 1)",
        "raise SystemExit('it is never run')\ndef main(): ...",
        "'\\d'\ndef main(): ...",
        "main = 1  # " + "x" * (1 << 20),
    ],
)
def test_a_module_that_may_bind_the_name_is_fine(project, source):  # noqa: F811
    assert told(project, source) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "there is no main in BASE/code/app.py"),
        ("def mains(): ...", "there is no main in BASE/code/app.py | did you mean app.mains?"),
        ("class A:\n    def main(self): ...", "there is no main in BASE/code/app.py"),
        ("def f():\n    main = 1", "there is no main in BASE/code/app.py"),
        ("print(main)", "there is no main in BASE/code/app.py"),
        ("def main(:\n", "BASE/code/app.py is not Python: line 1: invalid syntax"),
    ],
)
def test_a_module_that_does_not_is_told(project, source, message):  # noqa: F811
    assert told(project, source) == [message]


def test_a_package_comes_before_a_module_of_its_name(project):  # noqa: F811
    (project / "code" / "app").mkdir()
    (project / "code" / "app" / "__init__.py").touch()
    assert told(project, "def main(): ...") == ["there is no main in BASE/code/app/__init__.py"]


def test_a_module_that_workers_may_not_read_is_told(project):  # noqa: F811
    (project / "code" / "app.py").chmod(0)
    (one,) = found(HEAD, project)
    assert one.endswith("SF1064 functions.f.handler: BASE/code/app.py may not be read by workers")


def test_code_that_may_not_be_read_is_told_as_that(project):  # noqa: F811
    parts.open_to_others(project)
    assert found(HEAD, project) == []  # what it imports, it imports as who we are
    (project / "code").chmod(0)
    if os.getuid() == 0:
        os.chown(project / "code", 65_534, 65_534)
    one = as_ordinary_user(lambda: "".join(found(HEAD, project)))
    assert "SF1063 functions.f.code: BASE/code may not be read" in one


@given(st.text())
def test_any_text_is_judged_without_an_error(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.py"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    wrong, _ = misses(file, "main", file.parent)
    try:
        ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    only_running_shows = any(word in text for word in {"main", "*"} | DYNAMIC)
    assert wrong.startswith("there is no main in ") or only_running_shows
