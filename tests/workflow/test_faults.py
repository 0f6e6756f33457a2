"""Kill the workflow and take away what it needs: each fault ends with one clear error, leaves no
wrong file, and the same command goes on.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import digests

pytestmark = pytest.mark.workflow
KILLS = int(os.environ.get("NETREDUCE_KILLS", "1"))
NAMESPACE = ["unshare", "--mount", "--map-root-user"]
COMMAND = [
    Path(sys.executable).with_name("snakemake"),
    "--configfile",
    "config/quick.yaml",
    "--cores",
    "2",
]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def start(project, *arguments, **options):
    """Snakemake in a process group of its own."""
    environment = {**os.environ, "PATH": PATH, **options}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_in_namespace(project, setup, *arguments):
    """Run Snakemake where the shell commands `setup` have been run first, in a mount namespace;
    returns what it printed.
    """
    if subprocess.run(
        [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no mount namespaces here")
    shell = f'{setup} && exec "$@"'
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", shell, "sh", *COMMAND, *arguments],
        cwd=project.folder,
        env={**os.environ, "PATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode, done.stdout
    return done.stdout


def leftovers(project):
    return list((project / "results").rglob(".*.part*"))


def jobs_of(group):
    """Processes of a process group that run a script of the workflow."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.getpgid(int(entry.name)) == group
                and b"workflow/scripts" in (entry / "cmdline").read_bytes().split(b"\0", 2)[1]
            ):
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return found


def test_killed_at_any_moment_the_same_command_ends_with_the_same_results(finished, changed):
    """NETREDUCE_KILLS kills (1 unless told) of Snakemake, of a job, or of all of them, while
    everything is made a second time.
    """
    random.seed(0)
    expected = digests(finished.folder)
    kills = runs = 0
    while kills < KILLS:
        shutil.rmtree(changed / "results")
        runs += 1
        ended = False
        while not ended:
            process = start(changed)
            wait = random.uniform(2, 60)
            try:
                printed, _ = process.communicate(timeout=wait if kills < KILLS else None)
                assert process.returncode == 0, printed
                ended = True
            except subprocess.TimeoutExpired:
                victim = random.choice(("all", "snakemake", "job"))
                jobs = jobs_of(process.pid)
                if victim == "job" and jobs:
                    os.kill(random.choice(jobs), signal.SIGKILL)
                elif victim == "snakemake":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                process.communicate()
                print(f"kill {kills} of {victim} after {wait:.1f} s in run {runs}", flush=True)
        found = digests(changed.folder)
        assert {
            name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)
        } == set()
        assert not leftovers(changed)
    assert changed.stale() == {}


def test_a_killed_job_is_named_and_leaves_no_output(changed):
    (changed / "results/keras/digits.h5").unlink()
    process = start(changed, "results/keras/digits.h5")
    while process.poll() is None and not (jobs := jobs_of(process.pid)):
        time.sleep(0.05)
    os.kill(jobs[0], signal.SIGKILL)
    printed, _ = process.communicate()
    assert process.returncode
    assert "Error in rule rebuild" in printed
    assert not (changed / "results/keras/digits.h5").exists()


def test_a_second_run_says_that_the_first_one_holds_the_folder(changed):
    shutil.rmtree(changed / "results/report")
    first = start(changed)
    while first.poll() is None and not list((changed / ".snakemake/locks").glob("*")):
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGSTOP)
    second = start(changed)
    printed, _ = second.communicate()
    assert first.poll() is None, "the first run ended too soon"
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert second.returncode
    assert "Directory cannot be locked" in printed


@pytest.mark.parametrize("flock", ["fcntl.lockf", "lambda *_: os.close(-1)"])
def test_a_file_system_that_locks_as_nfs_does_or_not_at_all(changed, flock):
    """NFS makes POSIX locks of flock, which take a file open for reading and writing; elsewhere it
    may be an error.
    """
    (changed / "sitecustomize.py").write_text(f"import fcntl, os\nfcntl.flock = {flock}\n")
    process = start(changed, "results/keras/digits.h5", PYTHONPATH=str(changed.folder))
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "Nothing to be done" in printed


def test_a_full_disk(changed):
    network = changed / "results/keras/digits.h5"
    printed = run_in_namespace(
        changed, "mount -t tmpfs -o size=8k tmpfs results/keras", "results/keras/digits.h5"
    )
    assert "No space left on device" in printed
    assert network.exists(), (
        "what was there before the disk was full lies under the mount, untouched"
    )
    assert not leftovers(changed)


def test_a_read_only_results_folder(changed):
    printed = run_in_namespace(
        changed, "mount -t tmpfs -o ro tmpfs results/lumped", "results/lumped/digits_4bit.h5"
    )
    assert "Read-only file system" in printed


def test_an_input_that_is_cut_off(changed):
    weights = changed / "results/trained/digits.pth"
    weights.write_bytes(weights.read_bytes()[:1000])
    printed = changed.snakemake("results/txt/digits.txt", "--force", check=False)
    assert "error: results/trained/digits.pth" in printed
    assert not (changed / "results/txt/digits.txt").exists()


def test_no_network_and_no_npm(changed, tmp_path):
    unshare = [shutil.which("unshare"), "--net", "--map-root-user"]
    if (
        not unshare[0]
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no network namespaces here")
    done = subprocess.run(
        [
            *unshare,
            sys.executable,
            "workflow/scripts/data.py",
            "--dataset",
            "mnist",
            "--resources",
            "nothing",
            "--output",
            "results/data/mnist.npz",
        ],
        cwd=changed.folder,
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no source has all the files" in done.stderr
    assert "npm is not installed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (changed / "results/data/mnist.npz").exists()


def test_too_little_memory_for_a_job(changed):
    """A job that asks for more memory than it may have."""
    script = changed / "workflow/scripts/sweep.py"
    greedy = (
        "import resource\n    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))\n   "
        " bytearray(1 << 33)\n"
    )
    script.write_text(
        script.read_text().replace("    data = read(", f"    {greedy}    data = read(", 1)
    )
    shutil.rmtree(changed / "results/sweep")
    printed = changed.snakemake("results/sweep/digits/4bit.csv", check=False)
    assert "error: out of memory" in printed
    assert not list((changed / "results/sweep").rglob("*.h5"))
