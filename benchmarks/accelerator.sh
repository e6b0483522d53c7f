#!/usr/bin/env bash
# Runs all benchmarks on an accelerator within eight minutes, most important first.
#
#   benchmarks/accelerator.sh --out results        on the machine with the GPU or TPU
#   benchmarks/accelerator.sh --out results --dry-run
#
#   --out DIR      folder of the results; each step writes one JSON file when it ends
#   --wheels DIR   install the packages from these files first; requires no network
#   --minutes N    time limit: no step starts later, and a running step is stopped (default: 8)
#   --dry-run      run all steps with a tiny network on the CPU
#
# The data is synthetic: images are noise, which does not affect the time of a step. If a step
# fails, it is reported and the next one runs. PYTHON is the interpreter (default: python).

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

out='' wheels='' minutes=8 dry_run='' failed=0
usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "benchmarks/accelerator.sh"
  exit "$1"
}
while (($#)); do
  case $1 in
    --out | --wheels | --minutes)
      [[ $# -ge 2 ]] || usage 1
      declare "${1#--}=$2"
      shift 2
      ;;
    --dry-run) dry_run=1 && shift ;;
    --help) usage 0 ;;
    *) usage 1 ;;
  esac
done
[[ $out ]] || usage 1
mkdir -p "$out"
python=${PYTHON:-python}
[[ $wheels ]] && "$python" -m pip install --no-index --find-links "$wheels" 'lts_jax[cuda,torch]'

# Otherwise JAX preallocates memory that PyTorch needs.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
# Each program is compiled once for all steps.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/cache}
end=$((SECONDS + minutes * 60))

# step NAME COMMAND...: runs a command until the time limit; its output goes to NAME.txt.
step() {
  local name=$1 left=$((end - SECONDS)) start=$SECONDS
  shift
  if ((left <= 5)); then
    echo "$name: no time left"
    return
  fi
  if timeout "$left" "$@" >"$out/$name.txt" 2>&1; then
    echo "$name: $((SECONDS - start)) s"
  else
    failed=1
    echo "$name: failed after $((SECONDS - start)) s, see $out/$name.txt"
  fi
}
bench() {
  local name=$1 module=$2
  shift 2
  step "$name" "$python" -m "benchmarks.$module" "$@" --out "$out/$name.json"
}

images=1500 sentences=10834 size=416 steps=5 repeats=5 lead=(--first 5 --steps 30)
full=(--config refcoco) bf16=(--config.model.dtype=bfloat16) batch16='' batch32=''
if [[ $dry_run ]]; then
  export JAX_PLATFORMS=cpu
  bf16=() # bfloat16 matrix products take minutes on CPUs
  images=6 sentences=30 size=64 steps=1 repeats=1 batch16=8 batch32=8 lead=(--first 2 --steps 2)
  full+=(
    --config.model.embed_dim=8 --config.model.gru_features=8 --config.model.backbone_width=4
    '--config.model.backbone_stages=(1,1,1,1,1)' --config.model.fused_features=16
    --config.model.segmenter_features=8 '--config.model.segmenter_rates=(1,2,3)'
  )
fi
speed=(--size "$size" --steps "$steps" --repeats "$repeats")
batch16=${batch16:-$("$python" -m benchmarks.accelerator batch --dtype bfloat16 | tail -1)}
batch32=${batch32:-$("$python" -m benchmarks.accelerator batch --dtype float32 | tail -1)}

step rates "$python" -m benchmarks.accelerator rates --out "$out/rates.json"
bench train_bf16 train_step "${full[@]}" "${bf16[@]}" "${speed[@]}" --batch "$batch16"
bench train_bf16_torch train_step "${full[@]}" "${bf16[@]}" "${speed[@]}" \
  --batch "$((batch16 < 64 ? batch16 : 64))" --against torch # PyTorch needs more memory
bench train_f32 train_step "${full[@]}" "${speed[@]}" --batch "$batch32"
bench train_bf16_shared train_step "${full[@]}" "${bf16[@]}" "${speed[@]}" --batch "$batch16" \
  --config.train.sentences_per_image=4
XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_triton_gemm=false" bench train_bf16_no_triton train_step \
  "${full[@]}" "${bf16[@]}" "${speed[@]}" --batch "$batch16"

step data "$python" -m benchmarks.accelerator data --images "$images" --sentences "$sentences" \
  --out "$out/data"
data=("${full[@]}" "${bf16[@]}" --config.data.dir="$out/data" --config.data.image_size="$size")
bench evaluation evaluation "${data[@]}" --repeats 1
bench idle idle "${data[@]}" --config.train.batch_size="$batch16" "${lead[@]}"
# Train for one step, to create a checkpoint for prediction.
step train "$python" -m lts_jax train --workdir "$out/run" "${data[@]}" \
  --config.train.batch_size=8 --config.train.epochs=0.001 '--config.train.drop_epochs=()' \
  --config.eval.splits=testA --config.eval.best_split=testA --config.eval.gallery=0
bench predict predict --workdir "$out/run" --image "$out/photo.jpg" --repeats "$repeats"
"$python" -m benchmarks.accelerator summary --out "$out" | tee "$out/summary.txt"
exit "$failed"
