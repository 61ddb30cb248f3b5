"""``pgflow run`` while its database goes away and comes back."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import skip_or_fail
from tests.support import servers
from tests.support.cli import TIMEOUT_SECONDS, begun
from tests.support.waiting import wait_until


def test_a_run_outlives_a_restart_of_the_database(tmp_path: Path) -> None:
    binaries = servers.wheel_binaries() or servers.system_binaries()
    if binaries is None:
        skip_or_fail("no PostgreSQL was found")
    assert binaries is not None
    module = tmp_path / "patient.py"
    module.write_text(
        "import pathlib, time\nfrom pgflow import Flow\nflow = Flow('patient', timeout=60)\n"
        "@flow.step\ndef wait(input):\n"
        f"    pathlib.Path({str(tmp_path)!r}, 'began').touch()\n"
        f"    while not pathlib.Path({str(tmp_path)!r}, 'go').exists(): time.sleep(0.01)\n"
        "    return 'went'\n"
    )
    server = servers.Server(binaries)
    try:
        with begun("run", f"{module}:flow", "--slots", "1", url=server.url()) as process:
            wait_until((tmp_path / "began").exists, "the handler runs")
            server.stop("fast")
            assert process.stderr is not None
            while "trying until it is back" not in process.stderr.readline():
                assert process.poll() is None
            (tmp_path / "go").touch()
            server.start()
            stdout, _ = process.communicate(timeout=TIMEOUT_SECONDS)
            assert (process.returncode, stdout) == (0, '{"wait":"went"}\n')
    finally:
        server.remove()
