from __future__ import annotations

import os

import pytest

from machine.image import Image
from machine.machine import Machine

ASKED = os.environ.get("STREAMFAAS_MACHINE", "") not in {"", "0"}


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(2400)
@pytest.mark.skipif(
    not ASKED, reason="boots a machine, which takes minutes: STREAMFAAS_MACHINE=1 asks for it"
)
def test_the_service_passes_every_step_in_a_machine_of_its_own(tmp_path):
    image = Image(tmp_path)
    image.build()
    with Machine(image) as machine:
        failed = [told for told in machine.steps() if not told.passed]
        assert failed == []
        assert machine.switched_off(), machine.last_words()
