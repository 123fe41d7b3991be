"""The list of keys, read off the models."""

from pathlib import Path

from streamfaas.config import document, keys

REFERENCE = Path(__file__).parents[2] / "configs" / "reference.yaml"


def patterns(node, path=()):
    """The paths of all keys in a tree, with `*` for names."""
    if isinstance(node, document.Table):
        names = path in {("connections",), ("functions",), ("functions", "*", "triggers")}
        if path[-1:] == ("filter",):
            return  # what stands there are the names of the records' fields
        for name, value in node.values.items():
            here = (*path, "*" if names else name)
            if not names:
                yield here
            yield from patterns(value, here)


def anywhere(path):
    """The keys of a destination are the same wherever it stands."""
    return path if keys.section(path[:-1]) != "destinations" else ("destination", path[-1])


def test_the_reference_configuration_has_every_key_and_no_other():
    root, _ = document.parse(REFERENCE.read_text())
    shown = {
        anywhere(path)
        for path in patterns(root)
        if path[:3] != ("functions", "*", "env") or len(path) == 3
        if path[-2:-1] != ("headers",)
    }
    commented = {
        ("functions", "*", "runtime"), ("functions", "*", "venv"), ("connections", "*", "profile"),
    }  # fmt: skip
    assert shown | commented == {anywhere(key.path) for key in keys.known()}
    assert all(f"# {path[-1]}:" in REFERENCE.read_text() for path in commented)


def test_keys_of_later_versions_are_none_of_this_one():
    known = {key.path for key in keys.known()}
    assert not known & set(keys.LATER)
    for path in keys.LATER:
        assert keys.later([part if part != "*" else "x" for part in path])


def test_secrets_are_found_by_their_type():
    assert keys.secrets() == {
        "password",
        "client_secret",
        "secret",
        "secret_access_key",
        "session_token",
    }


def test_the_nearest_word_is_the_one_that_was_meant():
    words = ("memory", "best-effort", "on_failure")
    assert keys.nearest("memry", words) == "memory"
    assert keys.nearest("BEST_EFFORT", words) == "best-effort"
    assert keys.nearest("onfailure", words) == "on_failure"
    assert keys.nearest("zzz", words) == ""


def test_siblings_are_those_of_the_same_kind_of_trigger():
    path = ("functions", "f", "triggers", "t", "x")
    assert "topics" in keys.siblings(path, "kafka")
    assert "topics" not in keys.siblings(path, "memory")
    assert "queue" in keys.siblings(path, keys.kind_of("object-store", "sns-sqs"))
    assert "queue" not in keys.siblings(path, keys.kind_of("object-store", "kafka"))
