#!/usr/bin/env bash
# Runs on every worker of a TPU VM in the code folder; called by tpu_vm.sh.
#
#   launch/tpu_worker.sh setup
#   launch/tpu_worker.sh start [--data gs://BUCKET/FOLDER] --bucket BUCKET -- ARGUMENTS OF lts
#   launch/tpu_worker.sh state | log | stop
#
#   --data      copied to data/ on this worker's disk
#   --bucket    mounted at ../buckets/BUCKET
#   --dry-run   print the commands of setup and start without running them

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

verb='' bucket=''
own() {
  case $1 in
    setup | start | state | log | stop | run) verb=$1 used=1 ;;
    --bucket) value "$@" && bucket=$2 && used=2 ;;
  esac
}

# Files: lock (held by a run), command, pid, log.txt and status of the run, stop, ready, revision
notes=.launch
running() { ! flock --shared --nonblock "$notes/lock" true; } # shared: allows concurrent tests

setup() {
  run rm -f "$notes/ready"
  # The VM image has only Python 3.10.
  run curl -LsSf -o "$notes/uv.sh" https://astral.sh/uv/install.sh
  run sh "$notes/uv.sh"
  run "$HOME/.local/bin/uv" venv --allow-existing --python 3.12 .venv
  run "$HOME/.local/bin/uv" pip install --python .venv/bin/python '.[tpu]'
  run touch "$notes/ready"
}

# Orbax commits a checkpoint by renaming its folder, which is atomic only in a bucket with a
# hierarchical namespace. All workers write to one checkpoint, so metadata must not be cached. See
# docs/launch.md.
mount_bucket() {
  local package=gcsfuse_3.8.0_amd64.deb
  if ! command -v gcsfuse >/dev/null; then
    run curl -LsSf -o "$notes/$package" \
      "https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v3.8.0/$package"
    # A new machine first updates itself and holds the lock.
    run sudo apt-get -o DPkg::Lock::Timeout=600 update
    run sudo apt-get -o DPkg::Lock::Timeout=600 install --yes "./$notes/$package"
  fi
  if ! mountpoint -q "../buckets/$bucket"; then
    # If gcsfuse died, its broken mount must be removed first.
    [[ $dry_run ]] || ! mount | grep -qF "/buckets/$bucket " || fusermount -u -z "../buckets/$bucket"
    run mkdir -p "../buckets/$bucket"
    run gcsfuse --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \
      "$bucket" "../buckets/$bucket"
  fi
}

start() {
  [[ -f $notes/ready ]] || die "this worker is not set up: run setup first"
  [[ $bucket ]] || die "--bucket: specify the bucket of the workdir"
  local words
  words=$(quote "${rest[@]}")
  if running; then
    [[ $(<"$notes/command") == "$words" ]] ||
      die "another run is active on this worker: $(<"$notes/command")"
    echo "already running"
    return
  fi
  if [[ $data ]]; then
    run mkdir -p data
    run gcloud storage rsync "$data" data --recursive
  fi
  mount_bucket
  [[ ! $dry_run ]] || return 0
  rm -f "$notes/status" "$notes/stop"
  printf '%s\n' "$words" >"$notes/command"
  # The run inherits the lock, which is released when the run ends for any reason.
  exec 9>"$notes/lock"
  flock --timeout 5 9 || die "another run has just started on this worker"
  setsid "$0" run -- "${rest[@]}" </dev/null >>"$notes/log.txt" 2>&1 3>&- &
  echo "started"
}

run_detached() {
  local interrupted=''
  trap 'signalled=1 interrupted=1' TERM # from stop or a shutdown, which signal Python too
  echo "$$" >"$notes/pid"
  export LTS_GIT_REVISION
  LTS_GIT_REVISION=$(<"$notes/revision")
  "${on_any[@]}" .venv/bin/python -m lts_jax "${rest[@]}" &
  wait_for $!
  # An interrupted run is not finished, although its status is 0.
  local how="exited $status"
  [[ ! $interrupted ]] || how=interrupted
  [[ ! $interrupted || ! -f $notes/stop ]] || how=stopped
  echo "$how" >"$notes/status"
}

state() {
  local word=died
  if [[ ! -f $notes/ready ]]; then
    word=new
  elif running; then
    word=running
  elif [[ -f $notes/status ]]; then
    word=$(<"$notes/status")
  elif [[ ! -f $notes/command ]]; then
    word=idle
  fi
  echo "state $word"
}

stop() {
  running || die "no run is active on this worker"
  local group seconds
  group=$(<"$notes/pid")
  touch "$notes/stop" # before the signal, because tpu_vm.sh restarts interrupted runs
  kill -TERM -- "-$group"
  for ((seconds = 0; seconds < 60; seconds++)); do
    running || return 0
    sleep 1
  done
  die "the run did not end within 60 s"
}

parse "$@"
mkdir -p "$notes"
case $verb in
  setup | start | state | stop) "$verb" ;;
  log) [[ ! -f $notes/log.txt ]] || tail -n 20 "$notes/log.txt" ;;
  run) run_detached ;;
  *) die "specify setup, start, state, log or stop" ;;
esac
