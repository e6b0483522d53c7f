#!/usr/bin/env bash
# Trains or evaluates on all GPUs of this host, in one process.
#
#   launch/gpu.sh --config configs/refcoco.py --workdir runs/refcoco
#   launch/gpu.sh eval --workdir runs/refcoco
#
#   --config FILE[:VARIANT]   as of lts_jax.main
#   --workdir DIR             folder of the run
#   --data DIR                folder of the built sets, instead of the config's
#   --gpus 0,1                these GPUs alone
#   --dry-run                 print the command, run nothing
#   -- ...                    more arguments of lts_jax.main
#
# The same command goes on after a stop. PYTHON is the interpreter, python where not set.

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
command=("${on_gpus[@]}" "${PYTHON:-python}" -m lts_jax.main "${arguments[@]}")
[[ $dry_run ]] || exec "${command[@]}" # so that signals reach Python, which saves on SIGTERM
run "${command[@]}"
