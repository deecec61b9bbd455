"""A certificate authority of the tests and a certificate for servers on 127.0.0.1, made by `openssl`."""

import dataclasses
import functools
from pathlib import Path

from tests.support import processes


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Files: the authority that clients trust, and the servers' certificate and key (which only servers can read)."""

    authority: Path
    certificate: Path
    key: Path


@functools.cache
def certificates() -> Certificates:
    """Make them once for this process; 127.0.0.1 and localhost are the names in it."""
    folder = processes.new_folder("certificates")
    folder.chmod(0o755)  # clients read the authority
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl = processes.find_program("openssl")
    authority = ("-subj", "/CN=Tests", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
    processes.run((openssl, "req", "-x509", *new_key, *authority), folder)
    processes.run(
        (openssl, "req", *new_key, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"), folder
    )
    processes.write_for_servers(folder / "names", "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    issue = ("-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    processes.run((openssl, "x509", "-req", *issue, "-out", "server.pem", "-days", "2"), folder)
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
