"""A real Caddy with deploy/Caddyfile before instances of the tests."""

import signal
from collections.abc import Mapping, Sequence

from tests.support import processes, sources
from tests.support.certificates import certificates
from tests.support.ports import free_port
from tests.support.processes import ServerProcess

EXAMPLE = "127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003"
AROUND = """\
{{
	admin 127.0.0.1:{admin_port}
	auto_https disable_redirects
	skip_install_trust
}}
"""
"""What else Caddy does for a whole machine: its own port for orders, and port 80."""


class Caddy(ServerProcess):
    """Serves deploy/Caddyfile with ports and a certificate of the tests, and with what `instead` puts there."""

    def __init__(self, instances: Sequence[int], instead: Mapping[str, str] | None = None) -> None:
        super().__init__("caddy")
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        files = certificates()
        ours = {
            "\nchat.example.com {": f"\n{self.url} {{\n\ttls {files.certificate} {files.key}",
            EXAMPLE: " ".join(f"127.0.0.1:{port}" for port in instances),
        }
        text = (sources.ROOT / "deploy" / "Caddyfile").read_text("utf-8")
        for written, put in {**ours, **(instead or {})}.items():
            assert written in text, f"deploy/Caddyfile has no {written!r}"
            text = text.replace(written, put)
        around = AROUND.format(admin_port=free_port())
        self.file = processes.write_for_servers(self.folder / "Caddyfile", around + text)

    def start(self) -> None:
        """Start it and wait until it listens. Raises `ProgramFailedError`."""
        program = processes.find_program("caddy")
        home = f"HOME={self.folder}"
        arguments = ("--config", self.file, "--adapter", "caddyfile")
        self.launch(("env", home, program, "run", *arguments), lambda: processes.listens(self.port))

    def stop(self) -> None:
        """Let running requests end, and end."""
        self.end(signal.SIGTERM)
