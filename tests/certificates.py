"""A certificate and its key, for checks that read them."""

import subprocess


def make_certificate(folder, name, *options):
    """`name.pem` and `name.key`, signed by itself."""
    made = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 "
        f"-subj /CN=localhost -keyout {name}.key -out {name}.pem"
    )
    locked = options or ("-nodes",)
    subprocess.run([*made.split(), *locked], cwd=folder, check=True, capture_output=True)
