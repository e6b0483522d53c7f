#!/usr/bin/env bash
# Creates, runs and deletes a Cloud TPU VM or pod slice.
#
#   launch/tpu_vm.sh train --config refcoco --data gs://B/data --workdir gs://B/runs/refcoco \
#     -- --config.train.batch_size=16
#   launch/tpu_vm.sh create | setup | train | eval | status | stop | delete
#
# train and eval create the VM if it does not exist, set it up if needed, start the run on all
# workers and watch it. A preempted VM is recreated and the run resumes. The run does not depend on
# this script: if the script ends, rerun the same command to watch the run again.
#
#   --name NAME                 default: LTS_TPU_NAME, or lts-jax
#   --zone ZONE                 default: LTS_TPU_ZONE, or us-central2-b
#   --accelerator-type TYPE     default: LTS_TPU_TYPE, or v4-8; v4-32 is a slice of four workers
#   --version VERSION           default: LTS_TPU_VERSION, or the version for the type
#   --project PROJECT           default: LTS_TPU_PROJECT, or gcloud's project
#   --spot                      or LTS_TPU_SPOT=1; cheaper, but can be preempted at any time
#   --config NAME[:VARIANT]     a config, such as refcoco, or the path of a file in configs/
#   --data gs://BUCKET/FOLDER   folder of the built datasets; copied to data/ on each worker
#   --workdir gs://BUCKET/...   folder of the run
#   --poll SECONDS              interval between checks of the run; default: 60
#   --yes                       delete without confirmation
#   --dry-run                   print the commands without running them
#   -- ...                      more arguments of lts train or lts eval
#
# docs/launch.md describes the requirements for the bucket.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

verb='' name=${LTS_TPU_NAME:-lts-jax} zone=${LTS_TPU_ZONE:-us-central2-b}
type=${LTS_TPU_TYPE:-v4-8} version=${LTS_TPU_VERSION:-} project=${LTS_TPU_PROJECT:-}
spot=${LTS_TPU_SPOT:-} poll=60 yes=''

own() {
  case $1 in
    create | setup | status | stop | delete) verb=$1 used=1 ;;
    --accelerator-type) value "$@" && type=$2 && used=2 ;;
    --name | --zone | --version | --project | --poll)
      value "$@"
      printf -v "${1#--}" %s "$2"
      used=2
      ;;
    --spot) spot=1 used=1 ;;
    --yes) yes=1 used=1 ;;
  esac
}

tpu() {
  run gcloud compute tpus tpu-vm "$@" "--zone=$zone" ${project:+"--project=$project"}
}

# on WORKERS COMMAND ...: runs a command on workers in the code folder.
on() {
  tpu ssh "$name" "--worker=$1" "--command=cd lts_jax && $(quote "${@:2}")"
}

create() {
  if [[ ! $version ]]; then
    case $type in
      v6e-*) version=v2-alpha-tpuv6e ;;
      v5p-*) version=v2-alpha-tpuv5 ;;
      v5litepod-*) version=v2-alpha-tpuv5-lite ;;
      v[234]-*) version=tpu-ubuntu2204-base ;;
      *) die "--accelerator-type $type: unknown type; specify its --version" ;;
    esac
  fi
  if tpu create "$name" "--accelerator-type=$type" "--version=$version" ${spot:+--spot} \
    2>&1 >&3 | tee "$scratch/refused" >&2; then
    expected=READY # for dry runs
    return
  fi
  # Retrying helps only if there is no capacity, and not for errors in the command line.
  ! grep -qE 'INVALID_ARGUMENT|PERMISSION_DENIED|NOT_FOUND|unrecognized|invalid choice|argument --' \
    "$scratch/refused" || die "$name cannot be created; see the error above"
  return 1
}

delete() {
  tpu delete "$name" --quiet
}

setup() {
  local archive=${TMPDIR:-/tmp}/lts_jax-$name.tgz code=(lts_jax tfds_refcoco configs launch)
  local free="flock --shared --nonblock .launch/lock true" revision
  revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
  # lts_jax/configs is a link to ../configs; tar keeps links. The variable prevents macOS's tar from
  # adding files.
  run env COPYFILE_DISABLE=1 tar -czf "$archive" --exclude=__pycache__ \
    pyproject.toml README.md LICENSE "${code[@]}" &&
    tpu scp "$archive" "$name:lts_jax.tgz" --worker=all &&
    tpu ssh "$name" --worker=all "--command=mkdir -p lts_jax/.launch && cd lts_jax &&\
 { $free || { echo 'error: a run is active on this worker: stop it first' >&2; exit 1; }; } &&\
 rm -rf ${code[*]} && tar -xzf ../lts_jax.tgz && echo $revision >.launch/revision &&\
 launch/tpu_worker.sh setup"
}

# Prints the VM's state, NONE if it does not exist, UNKNOWN if gcloud fails.
vm_state() {
  # --quiet, because prompts of gcloud would not be visible.
  if ! tpu describe "$name" "--format=value(state)" --quiet 2>"$scratch/output"; then
    grep -q NOT_FOUND "$scratch/output" && echo NONE && return
    cat "$scratch/output" >&2
    echo UNKNOWN
  fi
  [[ ! $dry_run ]] || echo "$expected"
}

# Prints the distinct states of the workers' runs between commas, such as ",died,exited 1,".
run_states() {
  local state=lts_jax/launch/tpu_worker.sh states=''
  if tpu ssh "$name" --worker=all \
    "--command=if [ -e $state ]; then cd lts_jax && launch/tpu_worker.sh state; else echo state new; fi" \
    >"$scratch/output"; then
    states=$(sed -n 's/^state //p' "$scratch/output" | sort -u | paste -s -d , -)
  fi
  [[ ! $dry_run ]] || states='exited 0'
  echo ",${states:-unreachable},"
}

start() {
  on all launch/tpu_worker.sh start ${data:+--data "$data"} --bucket "$bucket" -- "${arguments[@]}"
}

# Prepares a VM for `start`; fails if a retry may succeed.
prepare() {
  local state
  state=$(vm_state)
  case $state in
    READY) [[ $(run_states) != *,new,* ]] || setup ;;
    NONE) create && setup ;;
    PREEMPTED | TERMINATED) delete && create && setup ;;
    CREATING | STARTING | RESTARTING | REPAIRING | DELETING | STOPPING)
      echo "$name is in state $state"
      return 1
      ;;
    *) die "$name is in state $state: retry later, or delete it" ;;
  esac
}

# patiently TRIES COMMAND: retries a command until it succeeds. A new VM initially refuses
# connections.
patiently() {
  local tries=$1
  until "$2"; do
    ((--tries)) || die "$2 failed; see the error above"
    echo "retrying in $poll s"
    sleep "$poll"
  done
}

# Watches a run until it ends. A preempted VM is recreated, and the run resumes.
watch() {
  local state states last='' silent=0 failed=0 renewing='' again="retrying in $poll s"
  trap 'die "stopped watching; the run continues. Rerun the same command to watch it again"' INT
  while :; do
    [[ $dry_run ]] || sleep "$poll"
    state=$(vm_state)
    case $state in
      READY) states=$(run_states) ;;
      UNKNOWN) states=,unreachable, ;;
      *) states=,$state, ;;
    esac
    if [[ $last != "$states" && ! $dry_run ]]; then
      last=$states
      echo "$(date '+%F %T') $name: ${states//,/ }"
    fi
    [[ $states == *,unreachable,* ]] || silent=0
    [[ $states == *,exited* ]] || failed=0
    case $states in
      ,PREEMPTED, | ,TERMINATED, | ,NONE,)
        [[ $state != NONE || $renewing ]] ||
          die "$name was deleted; rerun the same command to recreate it"
        renewing=1
        [[ $state == NONE ]] || delete || continue
        if create; then renewing=''; else echo "$again"; fi # there may be no capacity for hours
        ;;
      ,STOPPED, | ,HIDDEN,) die "$name is in state $state" ;;
      *,unreachable,*) ((++silent < 20)) || die "$name does not respond; the run may still be active" ;;
      *,new,*) setup || echo "$again" ;;
      *,running,*) ;;
      *,idle,* | *,died,* | *,interrupted,*) start || echo "$again" ;;
      *,stopped,*) echo "the run was stopped; rerun the same command to resume" && return ;;
      ',exited 0,')
        on 0 launch/tpu_worker.sh log
        [[ $dry_run ]] ||
          echo "the run has finished; run launch/tpu_vm.sh delete to stop the costs of $name"
        return
        ;;
      *,exited*)
        ((++failed < 3)) && continue # may be caused by a preemption
        on all launch/tpu_worker.sh log
        die "the run failed; see the log above. Rerun the same command to resume"
        ;;
    esac
  done
}

# On the workers, the bucket is mounted, and the data is in the configs' default folder.
worker_arguments() {
  local workdir=../buckets/${workdir#gs://} data=''
  make_arguments
}

follow() {
  local file=${config%%:*} layout
  [[ $workdir == gs://?*/?* ]] || die "--workdir: specify a folder in a bucket, gs://BUCKET/FOLDER"
  [[ ! $data || $data == gs://?* ]] || die "--data: specify a folder in a bucket, gs://BUCKET/FOLDER"
  [[ ! $file || $file == */* || $file == *.py ]] || file=configs/$file.py
  [[ ! $file || ($file == configs/* && -f $file) ]] || die "--config: $file is not a file in configs/"
  bucket=${workdir#gs://}
  bucket=${bucket%%/*}
  rest=(--distributed=auto ${rest[@]+"${rest[@]}"})
  worker_arguments
  layout=$(run gcloud storage buckets describe "gs://$bucket" \
    "--format=value(hierarchicalNamespace.enabled)" --raw)
  [[ $dry_run || $layout == True ]] ||
    die "gs://$bucket has no hierarchical namespace; see docs/launch.md"
  patiently 1000000 prepare
  patiently 3 start
  watch
}

status() {
  local state states=''
  state=$(vm_state)
  [[ $state != READY ]] || states=$(run_states)
  [[ $dry_run ]] || echo "$name in $zone: $state ${states//,/ }"
  [[ $state != READY ]] || on 0 launch/tpu_worker.sh log
}

ask_and_delete() {
  if [[ ! $yes && ! $dry_run ]]; then
    local answer=''
    read -r -p "Delete the TPU VM $name in $zone? [y/N] " answer || true
    [[ $answer == [yY]* ]] || die "not deleted; use --yes to delete without confirmation"
  fi
  delete
}

mode=''
parse "$@"
[[ $spot != [0nNfF]* ]] || spot='' # 0, no, false
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
expected=READY # the assumed state in a dry run
case ${verb:-$mode} in
  train | eval)
    expected=NONE
    follow
    ;;
  status) status ;;
  delete) ask_and_delete ;;
  create | setup) "$verb" ;;
  stop) on all launch/tpu_worker.sh stop ;;
  *) die "specify create, setup, train, eval, status, stop or delete" ;;
esac
