# Sourced by every script in hack/: where things are kept, and how progress is told.
# shellcheck shell=bash disable=SC2034  # used by those who source it

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Outside the work tree, so that every clone on the machine shares what is expensive to build.
CACHE=${PINNACE_CACHE:-${HOME:-/root}/.cache/pinnace}
mkdir -p "$CACHE"/{bin,log,store,images,tmp}
# Ours come first: another kubectl or helm on the machine may be years older.
export PATH=$CACHE/bin:$PATH

# A continuous-integration run starts from a fresh clone each time; its dependencies are built once per machine, and
# nothing is built twice, so that what rustc keeps for that would only take space.
[ "${CI:-}" != true ] || export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target} CARGO_INCREMENTAL=0

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# need_root WHAT: namespaces, mounts and packages are root's.
need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root: run it with sudo -E"; }

# elapsed SECONDS_AT_START: prints "12 s" or "3 min 4 s".
elapsed() {
  local s=$((SECONDS - $1))
  if [ $s -ge 60 ]; then printf '%d min %d s' $((s / 60)) $((s % 60)); else printf '%d s' $s; fi
}

# step TITLE LOGNAME COMMAND...: runs the command with its output in the cache's log folder and one line on the
# terminal; on failure shows the end of the log and ends the script. A pipe gets a line each minute instead of a
# counter, so that a long build is not taken for a hang.
step() {
  local title=$1 log=$CACHE/log/$2.log start=$SECONDS pid status=0
  shift 2
  ("$@") >"$log" 2>&1 </dev/null &
  pid=$!
  # A command in the background does not hear the terminal's interrupt.
  # shellcheck disable=SC2064  # the id is known now
  trap "kill_tree $pid; exit 130" INT TERM
  while kill -0 $pid 2>/dev/null; do
    sleep 0.2
    if [ -t 1 ]; then
      printf '\r  %-44s %s ' "$title" "$(elapsed $start)"
    elif [ $((SECONDS - start)) -gt 0 ] && [ $(((SECONDS - start) % 60)) -eq 0 ]; then
      printf '  %-44s %s so far\n' "$title" "$(elapsed $start)"
      sleep 1
    fi
  done
  wait $pid || status=$?
  trap - INT TERM
  [ -t 1 ] && printf '\r'
  if [ $status -ne 0 ]; then
    printf '  %-44s failed after %s\n' "$title" "$(elapsed $start)"
    tail -n 30 "$log" >&2
    die "$title failed; the whole log is $log"
  fi
  printf '  %-44s %s\n' "$title" "$(elapsed $start)"
}

# kill_tree PROCESS: it and all that it has started.
kill_tree() {
  local child
  # shellcheck disable=SC2013  # words: the file has one line
  for child in $(cat "/proc/$1/task"/*/children 2>/dev/null); do kill_tree "$child"; done
  kill "$1" 2>/dev/null || true
}

# locked NAME: one run at a time per machine of whatever NAME guards; held until the script ends. Whatever outlives the
# script must be started after `unlock` in its own subshell, or it holds the lock as long as it lives.
declare -A LOCKS=()
locked() {
  local fd
  [ -z "${LOCKS[$1]:-}" ] || return 0
  exec {fd}>"$CACHE/$1.lock"
  if ! flock -n "$fd"; then
    say "  waiting for another run of $1 to end"
    flock "$fd"
  fi
  LOCKS[$1]=$fd
}

unlock() {
  local fd
  for fd in "${LOCKS[@]}"; do exec {fd}>&-; done
}
