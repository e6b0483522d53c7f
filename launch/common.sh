# Functions and variables shared by the launch scripts, which source this file.
# shellcheck shell=bash disable=SC2034 # the scripts read the variables

mode=train config='' workdir='' data='' dry_run=''
rest=()   # the arguments after --
exec 3>&1 # a dry run prints here, even from inside $(...)

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Joins words into one line of shell code, like Python's shlex.join.
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

# Runs a command, or prints it in a dry run.
run() {
  if [[ $dry_run ]]; then printf '%s\n' "$(quote "$@")" >&3; else "$@"; fi
}

# value FLAG [VALUE ...]: exits with an error if the flag has no value.
value() {
  [[ $# -ge 2 && -n $2 && $2 != --* ]] || die "$1 needs a value"
}

# Parses the command line. A script's function `own` handles the script's specific flags, and sets
# `used` to the number of words that it consumed.
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
        ((used)) || die "unknown argument $1; see --help. Put arguments for Python after --"
        ;;
    esac
    shift "$used"
  done
  [[ -f lts_jax/__main__.py && -d configs ]] || die "run this script in the repository's root folder"
}

# Exits with an error if there is no interpreter; Python reports missing packages.
need_python() {
  [[ $dry_run ]] || command -v "${PYTHON:-python}" >/dev/null ||
    die "${PYTHON:-python} not found: activate the environment, or set PYTHON"
}

# folder FLAG PATH: exits with an error if the path is in a bucket.
folder() {
  [[ $2 != gs://* ]] || die "$1 $2 is not a local folder; see Buckets in docs/launch.md"
}

# Sets `arguments` to a command of lts and its flags.
make_arguments() {
  [[ $config || $mode == eval ]] || die "--config: specify the config to train, for example refcoco"
  [[ $config || $workdir ]] || die "--workdir: specify the run to evaluate"
  arguments=("$mode")
  [[ ! $config ]] || arguments+=(--config "$config")
  [[ ! $workdir ]] || arguments+=(--workdir "$workdir")
  [[ ! $data ]] || arguments+=("--config.data.dir=$data")
  arguments+=(${rest[@]+"${rest[@]}"}) # this form is required by bash 3 of macOS
}

# Prefix of the commands that run a network. It makes glibc request huge pages (2 MB), which most
# Linux systems provide only on request: a CPU training step of the full network takes a sixth less
# time, see docs/performance.md. glibc reads the variable at process start, so Python cannot set it.
# glibc before 2.35 and other C libraries ignore it. An existing value of glibc.malloc.hugetlb is
# not changed.
tunables=${GLIBC_TUNABLES:-}
[[ $tunables == *glibc.malloc.hugetlb=* ]] || tunables+=${tunables:+:}glibc.malloc.hugetlb=1
on_any=(env "GLIBC_TUNABLES=$tunables")

# The same for GPUs. Without the first two variables, JAX silently falls back to the CPU if it finds
# no GPU, and uses only 75 % of a GPU's memory. Existing values are not changed.
on_gpus=(
  "${on_any[@]}"
  "JAX_PLATFORMS=${JAX_PLATFORMS:-cuda}"
  "XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
  "XLA_FLAGS=${XLA_FLAGS---xla_gpu_enable_latency_hiding_scheduler=true}"
)

# Waits for a child and sets `status`. Waits again if a trap that sets `signalled` interrupts it.
wait_for() {
  status=0 signalled=1
  while [[ $signalled ]]; do
    signalled=''
    wait "$1" && status=0 || status=$?
  done
}
