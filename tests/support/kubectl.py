"""`kubectl` for a folder that stands for a cluster: it keeps what is applied, the real one does the rest."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it brings no types

Manifest = dict[str, Any]


def read(text: str) -> list[Manifest]:
    """Give the manifests of a text."""
    return [one for one in yaml.safe_load_all(text) if one]


def apply(cluster: Path, sources: list[str]) -> None:
    """Take manifests from files, folders and standard input."""
    for source in sources:
        path = Path(source)
        files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        for text in [sys.stdin.read()] if source == "-" else [file.read_text("utf-8") for file in files]:
            for manifest in read(text):
                kind, about = manifest["kind"], manifest["metadata"]
                namespace = about.get("namespace")
                if namespace is not None and not (cluster / f"Namespace-{namespace}.json").exists():
                    sys.exit(f"there is no namespace {namespace}")
                (cluster / f"{kind}-{about['name']}.json").write_text(json.dumps(manifest))


def main(cluster: Path, arguments: list[str]) -> None:
    """Do what was asked for."""
    if arguments[0] == "create":
        os.execv(os.environ["KUBECTL"], ["kubectl", *arguments])  # noqa: S606 - the real one, which asks no cluster here
    elif arguments[0] == "apply":
        apply(
            cluster, [source for option, source in zip(arguments[1::2], arguments[2::2], strict=True) if option == "-f"]
        )
    elif arguments[0] == "rollout":
        kind, _, name = arguments[-1].partition("/")
        kept = {file.name.lower(): file for file in cluster.iterdir()}.get(f"{kind}-{name}.json")
        if kept is None or json.loads(kept.read_text())["metadata"]["namespace"] not in arguments:
            sys.exit(f"there is no {kind} {name}")
    else:
        sys.exit(f"no such verb: {arguments[0]}")


if __name__ == "__main__":
    main(Path(os.environ["CLUSTER"]), sys.argv[1:])
