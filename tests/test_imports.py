"""What a start imports, which is most of what it takes."""

import subprocess
import sys
from typing import Final

_NOT_FOR_A_START: Final = {
    "aiohttp",
    "click",
    "cryptography",
    "dns",
    "google_crc32c",
    "multiprocessing",
    "rich",
    "sqlite3",
    "unittest",
    "xml",
    "yaml",
}
"""Libraries that a start can do without: what needs them imports them when it is first needed."""


def test_start_imports_nothing_that_it_does_not_need() -> None:
    """`kvraft.cli` and all that it imports."""
    program = "import sys, kvraft.__main__, kvraft.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    imported = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "kvraft" in imported.split()
    assert not _NOT_FOR_A_START & set(imported.split())


def test_member_without_tls_does_not_load_it() -> None:
    """Beside the value that its flags become."""
    program = "import sys, kvraft.cli; print(*(name for name in sys.modules if name.startswith('kvraft.security')))"
    imported = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    users = {f"kvraft.security.{room}" for room in ("attempts", "logins", "passwords", "rights")}
    assert set(imported.split()) - users == {"kvraft.security", "kvraft.security.files"}
