"""What an image's configuration says and what is inside it: all that its main needs, nothing else, and not too much."""

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path

from tests.images.image import Image, check, say

MEGABYTE = 1_000_000
MOST_ADDED_BYTES = {"stateless": 60 * MEGABYTE, "sqlite": 60 * MEGABYTE, "postgres": 140 * MEGABYTE}
DRIVERS = {
    "stateless": set[str](),
    "sqlite": {"aiosqlite"},
    "postgres": {"aiosqlite", "alembic", "psycopg", "psycopg_binary", "redis", "sqlalchemy"},
}
NOT_INSIDE = {"gcc", "cc", "g++", "make", "ld", "git", "pip", "pip3", "setuptools", "wheel", "ensurepip"}
NOT_INSIDE |= {".git", ".env", ".cache", "tests", "docs", "bench", "Dockerfile", "README.md", "requirements-dev.txt"}
CACHES = ("var/cache/apt/archives", "var/lib/apt/lists", "root/.cache", "tmp", "mnt", "run/secrets", "build")
PLACES = ("opt/venv", "app")
OURS = Path(__file__).resolve().parents[2] / "chatcore"


def size_of(folder: Path) -> int:
    """Give the bytes of all files below a folder; hard links count once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            status = Path(parent, name).lstat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def check_configuration(image: Image) -> None:
    """The configuration is what an orchestrator relies on."""
    config = image.configuration
    uid, _, gid = image.user.partition(":")
    check(uid.isdigit() and gid.isdigit() and int(uid) >= 1000, f"the user is {image.user!r}, not two numbers")
    check(config["Entrypoint"] == ["python", f"main_{image.mode}.py"], f"the entry point is {config['Entrypoint']}")
    check(config.get("StopSignal", "SIGTERM") in ("SIGTERM", "15"), "the image is not stopped by SIGTERM")
    check("8000/tcp" in config["ExposedPorts"], "port 8000 is not exposed")
    check(config["Healthcheck"]["Test"][0] == "CMD", "the health check is not in exec form")
    check("org.opencontainers.image.version" in config["Labels"], "labels are missing")
    check(image.mode in config["Labels"]["org.opencontainers.image.title"], "the title tells another mode")
    check(image.volumes() == ([] if image.mode == "stateless" else ["/data"]), f"its volumes are {image.volumes()}")


def check_contents(image: Image, base: Path) -> None:
    """Nothing that builds, tests or belongs to this machine is inside, and what we add is small."""
    known = {path for path in _paths(base) if path.parts[0] not in ("app", "opt")}
    added = [path for path in _paths(image.root) if path not in known]
    for place in PLACES:
        check((image.root / place).is_dir(), f"/{place} is missing")
    check_ours(image)
    strangers = [str(path) for path in _paths(image.root) if path.name in NOT_INSIDE and not _is_elses(path, base)]
    check(not strangers, f"inside the image: {strangers[:5]}")
    for place in CACHES:
        left = [path for path in (image.root / place).rglob("*") if path.is_file()]
        check(not left, f"/{place} holds {[str(path) for path in left[:3]]}")
    check(not (image.root / "etc/pip.conf").exists(), "pip's configuration is inside")
    check(not list(image.root.glob("mnt/*")), "what was lent to the build left a trace")
    for path in added:
        file = image.root / path
        if file.is_file() and not file.is_symlink():
            mode = file.stat().st_mode
            check(mode & 0o444 == 0o444 and not mode & 0o6022, f"/{path} has the mode {mode:o}")
            check(b"file:///mnt" not in file.read_bytes(), f"/{path} tells where the packages came from")
    sizes = {place: size_of(image.root / place) for place in PLACES}
    sizes["bytecode of the standard library"] = sum(
        (image.root / path).lstat().st_size for path in added if path.parts[0] not in ("app", "opt")
    )
    total = sum(sizes.values())
    named = ", ".join(f"{name} {size / MEGABYTE:.1f} MB" for name, size in sizes.items())
    say(f"added to the base: {total / MEGABYTE:.1f} MB ({named}); in all {size_of(image.root) / MEGABYTE:.1f} MB")
    most = MOST_ADDED_BYTES[image.mode]
    check(total <= most, f"more is added than {most / MEGABYTE:.0f} MB")


def check_ours(image: Image) -> None:
    """All of chatcore is inside, migrations and what browsers are served too, and the main and packages of one mode."""
    app = image.root / "app"
    mains = sorted(path.name for path in app.iterdir() if path.name != "chatcore")
    check(mains == [f"main_{image.mode}.py"], f"beside chatcore there is {mains}")
    files = [str(path) for path in _paths(OURS) if (OURS / path).is_file() and path.suffix != ".pyc"]
    _, other, missing = filecmp.cmpfiles(OURS, app / "chatcore", files, shallow=False)
    check(not missing and not other, f"of chatcore {missing[:3]} are missing, {other[:3]} differ")
    packages = {path.name for path in image.root.glob("opt/venv/lib/python*/site-packages/*")}
    drivers = packages & set().union(*DRIVERS.values())
    check(drivers == DRIVERS[image.mode], f"its database drivers are {sorted(drivers)}")


def _paths(root: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(root):
        for name in (*folders, *names):
            yield Path(parent, name).relative_to(root)


def _is_elses(path: Path, base: Path) -> bool:
    # Packages have folders called tests of their own; what is asked for is ours.
    return os.path.lexists(base / path) or "site-packages" in path.parts
