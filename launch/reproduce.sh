#!/usr/bin/env bash
# Reproduces the paper's tables: builds the datasets, trains every row, compares with the paper.
#
#   launch/reproduce.sh --raw RAW --backbone darknet53.weights --vectors glove.840B.300d.zip
#   launch/reproduce.sh --raw RAW --sets refcoco --tables 2,5 --seeds 3
#
#   --raw DIR         raw files, see docs/data.md; not needed if all datasets are built
#   --backbone FILE   pretrained Darknet53; Table 3 uses a ResNet
#   --vectors FILE    GloVe
#   --sets A,B        subset of refcoco, refcocoplus, refcocog; default: all
#   --tables 1,2      subset of the paper's tables for each dataset; default: all
#   --seeds N         runs per row; default: 1
#   --data DIR        folder of the built datasets; default: data
#   --workdir DIR     folder of the tables; default: runs/tables
#   --dry-run         print the commands without running them
#   -- ...            more arguments of lts tables, such as --config.model.dtype=bfloat16
#
# A run uses all visible GPUs, and their number must divide the paper's batch size of 18. To use one
# GPU, set CUDA_VISIBLE_DEVICES=0. Rerun the same command to resume. The variable PYTHON sets the
# interpreter; default: python.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

raw='' backbone='' vectors='' sets=refcoco,refcocoplus,refcocog tables=1,2,3,4,5,6,7 seeds=1
own() {
  case $1 in
    --raw | --backbone | --vectors | --sets | --tables | --seeds)
      value "$@"
      printf -v "${1#--}" %s "$2"
      used=2
      ;;
  esac
}

parse "$@"
data=${data:-data} workdir=${workdir:-runs/tables}
for flag in raw data workdir backbone vectors; do folder "--$flag" "${!flag}"; done
for file in "$backbone" "$vectors"; do
  [[ $dry_run || ! $file || -f $file ]] || die "$file: no such file"
done
[[ $backbone && $vectors ]] ||
  echo "warning: without --backbone and --vectors the initial weights are random, unlike the paper's" >&2
IFS=, read -ra sets <<<"$sets"
IFS=, read -ra tables <<<"$tables"
for set in "${sets[@]}"; do
  [[ ' refcoco refcocoplus refcocog ' == *" $set "* ]] ||
    die "--sets: unknown dataset $set; choose from refcoco, refcocoplus, refcocog"
done
for table in "${tables[@]}"; do
  [[ ' 1 2 3 4 5 6 7 ' == *" $table "* ]] ||
    die "--tables: unknown table $table; choose from 1, 2, 3, 4, 5, 6, 7"
done

need_python
darknet=() others=()
[[ ! $backbone ]] || darknet=("--config.model.backbone_weights=$backbone")
[[ ! $vectors ]] || others+=("--config.model.word_vectors=$vectors")
others+=(${rest[@]+"${rest[@]}"})

# Forwards signals to the child, which would otherwise keep running; training saves on SIGTERM.
stopped=''
trap 'signalled=1 stopped=1; kill -TERM $! 2>/dev/null || true' INT TERM HUP
child() {
  if [[ $dry_run ]]; then run "$@" && return; fi
  "$@" &
  wait_for $!
  [[ ! $stopped ]] || die "stopped; rerun the same command to resume"
  return "$status"
}

python=${PYTHON:-python} failed=() written=()
for set in "${sets[@]}"; do
  case $set in
    refcoco) dataset=refcoco_unc in_paper=' 1 2 3 4 5 6 7 ' ;;
    refcocoplus) dataset=refcocoplus_unc in_paper=' 1 4 7 ' ;;
    refcocog) dataset=refcocog_umd in_paper=' 1 4 7 ' ;;
  esac
  [[ ! $raw ]] ||
    child "$python" -m lts_jax data build --dataset "$dataset" --raw "$raw" --out "$data"
  for table in "${tables[@]}"; do
    [[ $in_paper == *" $table "* ]] || continue
    overrides=("--config.data.dir=$data")
    [[ $table == 3 ]] || overrides+=(${darknet[@]+"${darknet[@]}"})
    overrides+=(${others[@]+"${others[@]}"})
    # If a table fails, continue with the others.
    if child "${on_gpus[@]}" "$python" -m lts_jax tables --config "$set" --table "$table" \
      --seeds "$seeds" --workdir "$workdir/$set" "${overrides[@]}"; then
      written+=("$workdir/$set/table$table.md")
    else
      failed+=("table $table of $set")
    fi
  done
done
[[ ! $dry_run ]] || exit 0
((${#written[@]} == 0)) || printf 'wrote %s\n' "${written[@]}"
((${#failed[@]} == 0)) || die "failed, see above: $(IFS=,; echo "${failed[*]}")"
