import inspect
import subprocess
import sys

import pytest

from config_project import KAFKA, project, valid  # noqa: F401
from streamfaas.daemon.sources import NEEDS, options_of, source_class
from streamfaas.sources import KINDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_given_what_it_needs_and_nothing_that_it_does_not_take(kind):
    parameters = inspect.signature(source_class(kind)).parameters.values()
    named = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    needed = {each.name for each in named if each.default is each.empty}
    given = {"emit", *NEEDS[kind]}
    assert needed <= given <= {each.name for each in named}


def test_a_group_has_the_name_of_its_trigger_unless_it_is_given_another(project):  # noqa: F811
    other = "{type: kafka, connection: main, topics: [a], start: latest, group: mine}"
    config = valid(f"{KAFKA}}}\n      u: {other}\n", project)
    triggers = config.functions["f"].triggers
    groups = [options_of(config, "f", name, each).group for name, each in triggers.items()]
    assert groups == ["streamfaas.f.t", "mine"]


@pytest.mark.slow
def test_a_daemon_without_kafka_and_aws_has_nothing_of_their_libraries_in_memory():
    # what the kinds need that every daemon may have, and that need no library of their own
    code = (
        "import sys, streamfaas.daemon.main, streamfaas.destinations.function\n"
        "from streamfaas.daemon.sources import source_class\n"
        "for kind in 'backlog', 'directory', 'memory': source_class(kind)\n"
        "heavy = {'aiobotocore', 'aiohttp', 'aiokafka', 'botocore'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
