"""Another processor's Python, from Debian's packages and wheels, run by qemu-user without root or a chroot."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ["python3.11", "libpython3.11-dev", "libgomp1", "libstdc++6"]
VERSION = "3.11"
WHEELS = ["numpy", "scipy", "pytest", "hypothesis"]
PLATFORMS = ["manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "any"]


@dataclass
class Arm64:
    """A cross-compiler, an emulator, and a folder with the system that they work for."""

    compiler: str
    emulator: str
    system: Path | None = None

    def root(self) -> Path:
        """Return the folder, filled when it is asked for first."""
        if self.system is None:
            raise RuntimeError("no folder for the system")
        if not (self.system / "root/usr/bin").exists():
            self.fetch(self.system)
        return self.system / "root"

    def fetch(self, folder: Path) -> None:
        """Unpack Debian's packages, which a private state of apt finds for the other processor, and install wheels."""
        for name in ("state/lists/partial", "cache/archives/partial", "root"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "state/status").touch()
        settings = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "state/status",
            "Dir::Cache": folder / "cache",
            "Debug::NoLocking": "1",
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "install", "-y", "--no-install-recommends", "--download-only", *PACKAGES], check=True)
        for package in sorted((folder / "cache/archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
        where = [f"--platform={name}" for name in PLATFORMS]
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--only-binary=:all:"]
        pip += [f"--python-version={VERSION}", "--implementation=cp", *where]
        subprocess.run([*pip, f"--target={folder / 'root/site'}", *WHEELS], check=True)

    def build_environment(self) -> dict[str, str]:
        """Return what setup.py must know; the sysconfig of the other Python names its modules."""
        root = self.root()
        data = root.parent / "sysconfigdata"
        data.mkdir(exist_ok=True)
        name = "_sysconfigdata__aarch64-linux-gnu"
        (data / f"{name}.py").write_bytes((root / f"usr/lib/python{VERSION}/{name}.py").read_bytes())
        include = root / "usr/include"
        return {
            "CC": self.compiler,
            "LDSHARED": f"{self.compiler} -shared",
            "CFLAGS": f"-I{include}/python{VERSION} -idirafter {include}",
            "PYTHONPATH": str(data),
            "_PYTHON_HOST_PLATFORM": "linux-aarch64",
            "_PYTHON_SYSCONFIGDATA_NAME": name,
        }

    def python(self) -> list[str]:
        """Return the command that starts the other Python."""
        root = self.root()
        return [self.emulator, "-L", str(root), str(root / f"usr/bin/python{VERSION}")]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return where it finds what is compiled, and the wheels."""
        return {"PYTHONPATH": f"{folder}:{folder / 'tests'}:{self.root() / 'site'}"}
