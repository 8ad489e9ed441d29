"""Make the environment of the foreign clients: `python -m tests.compat.environment FOLDER`.

It is apart from the project's own because these packages pin others than ours. perf_analyzer is a binary inside an old
wheel of tritonclient (the later ones of its own need a newer C library); the two shared libraries it needs come with
pytriton, of which only the client is kept.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "compat.txt"
PERF_ANALYZER_WHEEL = "tritonclient==2.47.0"
NEWEST_PYTHON = (3, 12)  # mlserver installs on no later one
OLDEST_GLIBC = (2, 35)  # of pytriton's wheel
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


def unsupported() -> str:
    """Why the clients do not install on this machine; empty: they do."""
    if sys.version_info[:2] > NEWEST_PYTHON:
        return f"expected Python {_dotted(NEWEST_PYTHON)} or older, found {_dotted(sys.version_info[:2])}"
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"expected Linux on x86_64, found {sys.platform} on {platform.machine()}"
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split("."))) < OLDEST_GLIBC:
        return f"expected glibc {_dotted(OLDEST_GLIBC)} or newer, found {library or 'another library'} {version}"
    return ""


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def make(folder: Path) -> None:
    """Install the pinned clients into this folder, made anew.

    Raises:
        subprocess.CalledProcessError: A package could not be installed.
        FileNotFoundError: A wheel does not hold what is expected of it.
    """
    venv.create(folder, clear=True, with_pip=False)
    # Not compiling halves the time; what is imported is compiled then.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    installing = [*pip, f"--python={folder / 'bin' / 'python'}", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*installing, f"--requirement={REQUIREMENTS}"], check=True)
    packages = next(folder.glob("lib/python3*/site-packages"))
    keep_libraries(packages, folder / "lib")
    with tempfile.TemporaryDirectory() as downloads:
        fetching = [*pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={downloads}"]
        subprocess.run([*fetching, PERF_ANALYZER_WHEEL], check=True)
        extract_perf_analyzer(next(Path(downloads).glob("*.whl")), folder / "bin" / "perf_analyzer")


def keep_libraries(packages: Path, to: Path) -> None:
    """Keep what perf_analyzer needs of pytriton's libraries, and nothing of the server in it (150 MB)."""
    libraries = packages / "nvidia_pytriton.libs"
    for name, pattern in LIBRARIES.items():
        found = list(libraries.glob(pattern))
        if len(found) != 1:
            raise FileNotFoundError(f"{libraries}/{pattern}: expected one file, found {len(found)}")
        shutil.copy(found[0], to / name)
    shutil.rmtree(libraries)
    shutil.rmtree(packages / "pytriton" / "tritonserver")


def extract_perf_analyzer(wheel: Path, to: Path) -> None:
    """Write the binary that a wheel of tritonclient carries."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/bin/perf_analyzer")), None)
        if name is None:
            raise FileNotFoundError(f"{wheel.name}: there is no perf_analyzer in it")
        to.write_bytes(archive.read(name))
    to.chmod(0o755)


def main() -> None:
    """The command: say that nothing is made where a client does not install."""
    reason = unsupported()
    if reason:
        print(f"notice: the V2 clients do not install here ({reason}): their tests will be skipped")
    else:
        make(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
