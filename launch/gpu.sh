#!/usr/bin/env bash
# Trains or evaluates on all GPUs of this host, in one process.
#
#   launch/gpu.sh --config refcoco --workdir runs/refcoco
#   launch/gpu.sh eval --workdir runs/refcoco
#
#   --config NAME[:VARIANT]   a config, such as refcoco, or the path of a .py file
#   --workdir DIR             folder of the run
#   --data DIR                folder of the built datasets; default: the config's
#   --gpus 0,1                use only these GPUs
#   --dry-run                 print the command without running it
#   -- ...                    more arguments of lts train or lts eval
#
# Rerun the same command to resume. The variable PYTHON sets the interpreter; default: python.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

own() {
  case $1 in
    --gpus) value "$@" && on_gpus+=("CUDA_VISIBLE_DEVICES=$2") && used=2 ;;
  esac
}

parse "$@"
folder --workdir "$workdir"
folder --data "$data"
make_arguments
need_python
command=("${on_gpus[@]}" "${PYTHON:-python}" -m lts_jax "${arguments[@]}")
[[ $dry_run ]] || exec "${command[@]}" # so that signals reach Python, which saves on SIGTERM
run "${command[@]}"
