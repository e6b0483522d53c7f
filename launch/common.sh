# What the scripts beside it share; they source it.
# shellcheck shell=bash disable=SC2034 # variables that they read

mode=train config='' workdir='' data='' dry_run=''
rest=()   # what stands behind --
exec 3>&1 # where a dry run prints, also from inside $(...)

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Prints words as one line for a shell, as Python's shlex.join does.
quote() {
  local line='' word mark="'\"'\"'"
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_@%+=:,./-]*) word="'${word//\'/$mark}'" ;;
    esac
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

# Runs a command; a dry run prints it instead.
run() {
  if [[ $dry_run ]]; then printf '%s\n' "$(quote "$@")" >&3; else "$@"; fi
}

# value FLAG [VALUE ...]: ends with an error if the flag stands alone.
value() {
  [[ $# -ge 2 && -n $2 && $2 != --* ]] || die "$1 needs a value"
}

# Parses the command line. What only one script knows is taken by its function `own`, which sets
# `used` to the number of words.
parse() {
  while (($#)); do
    if [[ $1 == --*=* ]]; then set -- "${1%%=*}" "${1#*=}" "${@:2}"; fi
    used=1
    case $1 in
      train | eval) mode=$1 ;;
      --config) value "$@" && config=$2 && used=2 ;;
      --workdir) value "$@" && workdir=${2%/} && used=2 ;;
      --data) value "$@" && data=${2%/} && used=2 ;;
      --dry-run) dry_run=1 ;;
      --help | -h)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit
        ;;
      --)
        shift
        rest=("$@")
        break
        ;;
      *)
        used=0
        own "$@"
        ((used)) || die "unknown argument $1; --help lists them, others stand behind --"
        ;;
    esac
    shift "$used"
  done
  [[ -f lts_jax/main.py && -d configs ]] || die "run this in the folder that holds configs/"
}

# folder FLAG PATH: ends with an error if the path is in a bucket.
folder() {
  [[ $2 != gs://* ]] || die "$1 $2 is no folder of this machine; docs/launch.md says how to get one"
}

# Sets `arguments`, those of lts_jax.main.
make_arguments() {
  [[ $config || $mode == eval ]] || die "--config: give the one to train, as configs/refcoco.py"
  [[ $config || $workdir ]] || die "--workdir: give the run to evaluate"
  arguments=()
  [[ $mode == train ]] || arguments+=(--mode=eval)
  [[ ! $config ]] || arguments+=(--config "$config")
  [[ ! $workdir ]] || arguments+=(--workdir "$workdir")
  [[ ! $data ]] || arguments+=("--config.data.dir=$data")
  arguments+=(${rest[@]+"${rest[@]}"}) # so written for bash 3, which macOS has
}

# Before a command for GPUs. JAX falls back to the CPU without a word where it finds none, and takes
# only 75 % of their memory. What is set already stays.
on_gpus=(
  env "JAX_PLATFORMS=${JAX_PLATFORMS:-cuda}"
  "XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
  "XLA_FLAGS=${XLA_FLAGS---xla_gpu_enable_latency_hiding_scheduler=true}"
)

# Waits for a child. Traps that set `signalled` interrupt the wait, which then goes on.
wait_for() {
  status=0 signalled=1
  while [[ $signalled ]]; do
    signalled=''
    wait "$1" && status=0 || status=$?
  done
}
