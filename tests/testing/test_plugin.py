import pathlib
import subprocess
import sys

SCRIPT = """
pytest_plugins = ["kvraft.testing.plugin"]

def test_that_fails(etcd_member):
    print("pid", etcd_member.members[0].pid)
    assert etcd_member.members[0].http("GET", "/v2/keys/none").status == 200
"""


def test_failed_test_shows_its_members_logs_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """A user's test file needs one line; the report of a failure has what the members said."""
    script = tmp_path / "test_register.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", f"--rootdir={tmp_path}"]
    shown = subprocess.run(
        [*command, "-c", "/dev/null", str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    ).stdout
    assert "assert 404 == 200" in shown
    assert "log of etcd n1, http://127.0.0.1:" in shown
    assert "ready to serve client requests" in shown
    pid = shown.partition("pid ")[2].split()[0]
    assert not pathlib.Path(f"/proc/{pid}").exists()
