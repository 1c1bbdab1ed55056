"""Make the wheels of the checked out commit, and their bill of materials: `python -m release.build [directory]`.

The wheel is that of the commit, not of the files as they lie there: what is not committed is not in it. Times in it are
the commit's, modes do not follow the umask, and setuptools is the pinned one, so that the same commit gives the same
bytes on any machine. With a C compiler there is a second wheel, whose hot files are compiled by mypyc (`setup.py`).
The bill of materials lists what a fresh installation by constraints.txt has on this machine's platform and Python.
"""

import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import HeaderParser
from typing import Final

ROOT: Final = pathlib.Path(__file__).parents[1]
SPECIFICATION: Final = "1.6"
"""Of CycloneDX: what the readers of these documents know by now."""


def main(directory: pathlib.Path) -> None:
    """Make them, and print their names with the hash of the wheel."""
    commit = _git("rev-parse", "--short=12", "HEAD").decode().strip()
    if _git("status", "--porcelain", "--untracked-files=no"):
        print(
            f"build: there are changes that are not committed; they are not in the wheel of {commit}", file=sys.stderr
        )
    built = wheel(ROOT, directory)
    bill = bill_of_materials(built)
    print(f"{built}  commit {commit}  sha256 {hashlib.sha256(built.read_bytes()).hexdigest()}")
    print(bill)
    if shutil.which("cc") is None:
        print("build: no compiled wheel: there is no C compiler (Debian: gcc and python3-dev)", file=sys.stderr)
    else:
        print(wheel(ROOT, directory, compiled=True))


def wheel(checkout: pathlib.Path, directory: pathlib.Path, *, compiled: bool = False) -> pathlib.Path:
    """Make the wheel of a checkout's commit in a directory; the compiled one is for this machine's kind and Python.

    Raises:
        subprocess.CalledProcessError: git or setuptools failed; what they said is on stderr.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # tar.umask: the modes in the archive, and so in the wheel, are the same whoever checks out.
    archive = _git("-c", "tar.umask=0022", "archive", "--format=tar", "HEAD", checkout=checkout)
    committed_at = _git("log", "-1", "--format=%ct", checkout=checkout).decode().strip()
    with tempfile.TemporaryDirectory(prefix="kvraft-build-") as made:
        source, out = pathlib.Path(made, "source"), pathlib.Path(made, "out")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(source, filter="tar")
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)],
            check=True,
            stdout=subprocess.DEVNULL,
            umask=0o022,
            env={
                **os.environ,
                "SOURCE_DATE_EPOCH": committed_at,
                "TZ": "UTC",
                "LC_ALL": "C.UTF-8",
                "KVRAFT_COMPILED": "1" if compiled else "0",
            },
        )
        [made_wheel] = out.glob("*.whl")
        return pathlib.Path(shutil.copy(made_wheel, directory))


def bill_of_materials(built: pathlib.Path) -> pathlib.Path:
    """Write what a wheel needs beside it: every package that pip brings, with version, licence and who needs it.

    Raises:
        subprocess.CalledProcessError: pip or cyclonedx-py failed; what they said is on stderr.
    """
    bill = built.with_name(f"{'-'.join(built.name.split('-')[:2])}.cdx.json")
    with tempfile.TemporaryDirectory(prefix="kvraft-bill-") as made:
        environment = pathlib.Path(made, "environment")
        python = environment / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        # Not the wheel itself: pip would note down where on this machine it lay.
        pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--retries", "10")
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *requirements(built)], check=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")),
                *("--mc-type", "application", "--spec-version", SPECIFICATION, "--output-reproducible"),
                *("--output-file", str(bill), str(python)),
            ],
            check=True,
        )
    return bill


def requirements(built: pathlib.Path) -> list[str]:
    """What a wheel says that it needs, extras aside."""
    with zipfile.ZipFile(built) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        said = HeaderParser().parsestr(archive.read(name).decode())
    return [line for line in said.get_all("Requires-Dist", []) if "extra ==" not in line]


def _git(*words: str, checkout: pathlib.Path = ROOT) -> bytes:
    return subprocess.run(["git", "-C", str(checkout), *words], check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
