"""Stands in for the programs that the launch scripts call; which one, says the name it has.

It notes each call in calls.jsonl of the folder FAKE. A worker of a TPU VM is a folder worker<K>
there, its home; ssh runs its command in it for real. What shall happen is read from files:

    states    one state a line, of which `describe` takes the next; the last one stays
    runs      one line for each run on a machine: `exit <status>`, or `until <file>`, which ends
              with 0 when the file is there, or on SIGTERM; the last one stays
    fail      one line for each call that shall fail: its verb, as `ssh`
    refusal   what such a call says
    workers   how many workers `create` makes, 1 without the file
    buckets/  one folder a bucket; a file flat in it says that it has no hierarchical namespace
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

FAKE = Path(os.environ["FAKE"])
WHERE = os.environ.get("FAKE_WORKER", "here")


def main(name, args):
    with (FAKE / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"where": WHERE, "call": [name, *args]}) + "\n")
    return PROGRAMS[name](args)


def next_line(file, default):
    lines = (FAKE / file).read_text().splitlines() if (FAKE / file).exists() else [default]
    if len(lines) > 1:
        (FAKE / file).write_text("\n".join(lines[1:]))
    return lines[0]


def fails(verb):
    path = FAKE / "fail"
    lines = path.read_text().splitlines() if path.exists() else []
    if verb not in lines:
        return False
    lines.remove(verb)
    path.write_text("\n".join(lines))
    return True


def homes():
    return sorted(FAKE.glob("worker*[0-9]"))


def gcloud(args):
    if args[0] == "storage":
        return storage(args[1:])
    if args[3] in ("delete", "scp"):
        import shutil  # slow, as subprocess below, and this starts a hundred times

    verb, flags = args[3], dict(a[2:].partition("=")[::2] for a in args[3:] if a[:2] == "--")
    if fails(verb):
        file = FAKE / "refusal"
        why = file.read_text() if file.exists() else "no capacity, no route"
        print(f"ERROR: (gcloud.compute.tpus.tpu-vm.{verb}) {why}", file=sys.stderr)
        return 255 if verb == "ssh" else 1
    if verb == "describe":
        state = next_line("states", "READY")
        if state == "NOT_FOUND":
            print("ERROR: (gcloud...describe) NOT_FOUND: Resource not found", file=sys.stderr)
            return 1
        print(state)
    elif verb == "create":
        workers = FAKE / "workers"
        for k in range(int(workers.read_text()) if workers.exists() else 1):
            (FAKE / f"worker{k}").mkdir()
    elif verb == "delete":
        for home in homes():
            end_run(home, signal.SIGKILL)
            shutil.rmtree(home)
    elif verb == "scp":
        name = args[5].partition(":")[2]
        for home in homes():
            shutil.copy(args[4], home / name)
    elif verb == "ssh":
        chosen = homes() if flags["worker"] == "all" else [homes()[int(flags["worker"])]]
        return max([ssh(home, flags["command"]) for home in chosen])
    return 0


def ssh(home, command):
    import subprocess

    path = f"{FAKE}/bin:{home}/.local/bin:/usr/bin:/bin"
    env = {"FAKE": str(FAKE), "FAKE_WORKER": home.name, "HOME": str(home), "PATH": path}
    return subprocess.run(["bash", "-c", command], cwd=home, env=env, check=False).returncode


def end_run(home, number):
    pid = home / "lts_jax/.launch/pid"
    if pid.exists():
        try:
            os.killpg(int(pid.read_text()), number)
        except ProcessLookupError:
            return


def storage(args):
    if args[:2] == ["buckets", "describe"]:
        bucket = FAKE / "buckets" / args[2].removeprefix("gs://")
        print("" if (bucket / "flat").exists() else "True")
    elif args[0] == "rsync":
        import shutil

        source = FAKE / "buckets" / args[1].removeprefix("gs://")
        shutil.copytree(source, args[2], dirs_exist_ok=True)
    return 0


def curl(args):
    Path(args[args.index("-o") + 1]).write_text(
        f"mkdir -p ~/.local/bin && cp -P {FAKE}/uninstalled/uv ~/.local/bin/uv"
    )
    return 0


def sudo(args):
    if "install" in args:
        (Path.home() / ".local/bin/gcsfuse").symlink_to(FAKE / "uninstalled/gcsfuse")
    return 0


def uv(args):
    if args[0] == "venv":
        Path(args[-1], "bin").mkdir(parents=True, exist_ok=True)
        if not Path(args[-1], "bin/python").exists():
            Path(args[-1], "bin/python").symlink_to(FAKE / "bin/python")
    return 0


def gcsfuse(args):
    Path(args[-1]).rmdir()
    Path(args[-1]).symlink_to(FAKE / "buckets" / args[-2])
    return 0


def mountpoint(args):
    return 0 if Path(args[-1]).is_symlink() else 1


def python(args):
    count = FAKE / f"count_{WHERE}"
    number = int(count.read_text()) if count.exists() else 0
    count.write_text(str(number + 1))
    lines = (FAKE / "runs").read_text().splitlines() if (FAKE / "runs").exists() else ["exit 0"]
    verb, what = lines[min(number, len(lines) - 1)].split()
    platforms, revision = map(os.environ.get, ("JAX_PLATFORMS", "LTS_GIT_REVISION"))
    tunables = os.environ.get("GLIBC_TUNABLES")
    print("JAX_PLATFORMS", platforms, "run", number, "of", revision, "with", tunables, flush=True)
    if verb == "exit":
        return int(what)

    def save(*_):
        print("saved", flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, save)
    (FAKE / f"running_{WHERE}").write_text(str(os.getpid()))
    while not (FAKE / what).exists():
        time.sleep(0.01)
    return 0


def srun(args):
    return python(args)


def scancel(args):
    os.kill(int((FAKE / f"running_{WHERE}").read_text()), signal.SIGTERM)
    return 0


def scontrol(args):
    return 0


PROGRAMS = {
    f.__name__: f
    for f in (gcloud, curl, sudo, uv, gcsfuse, mountpoint, python, srun, scancel, scontrol)
}

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
