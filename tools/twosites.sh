# shellcheck shell=bash
# Two sites on one machine: certificates, configurations and both daemons on the loopback interface. Sourced by
# tools/demo after tools/host.sh; needs its $failback, $azure, $onprem, $fresh, $thin_line, `show` and `figure`.
#
# Invariant: every daemon that was started is in $daemon_pids until it has ended, and only those are ever signalled.

# shellcheck disable=SC2154 # the names above are the demo's

declare -A daemon_pids=()
readonly wait_seconds=60

# Names of the two sites' folders, short and relative: a control socket's path may have 107 bytes at most.
readonly sites=target/demo/sites

# free_port: a port of the loopback interface where nobody answers.
free_port() {
  local port
  while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# common NAME: the part of a configuration that both daemons share.
common() {
  cat <<TOML
state_dir = "$sites/$1/state"
control = "$sites/$1/control.sock"
admin = "off"

[tls]
certificate = "$sites/$1/tls/cert.pem"
key = "$sites/$1/tls/key.pem"
ca = "$sites/$1/tls/ca.pem"
crl = "$sites/$1/tls/crl.pem"
TOML
}

# machine_at_process_server ID BANDWIDTH
machine_at_process_server() {
  cat <<TOML

[[machine]]
id = "$1"
target = "127.0.0.1:$port"
target_identity = "failback://master-target/site-1"
bandwidth = "$2"

[[machine.disk]]
id = "disk0"
source = "${azure#"$root/"}"
TOML
}

# machine_at_master_target ID PATH CREATE
machine_at_master_target() {
  cat <<TOML

[[machine]]
id = "$1"
allow = ["failback://process-server/azure-1"]

[[machine.disk]]
id = "disk0"
path = "${2#"$root/"}"
create = $3
TOML
}

# command_line ARGUMENTS…: shows and runs failback, and what it says, indented.
command_line() {
  show failback "$@"
  "$failback" "$@" | sed 's/^/   /'
}

# two_sites: an authority, a certificate for each daemon, and both configurations, checked and shown.
two_sites() {
  local port daemon
  port=$(free_port)
  mkdir -p "$sites"/{process-server,master-target}
  command_line pki init --pki "$sites/pki"
  command_line pki issue failback://master-target/site-1 --pki "$sites/pki" --export "$sites/master-target/tls"
  command_line pki issue failback://process-server/azure-1 --pki "$sites/pki" --export "$sites/process-server/tls"
  {
    printf 'listen = "127.0.0.1:%s"\n' "$port"
    common master-target
    machine_at_master_target app01 "$onprem" false
    machine_at_master_target app01-new "$fresh" true
  } >"$sites/master-target.toml"
  {
    common process-server
    machine_at_process_server app01 unlimited
    machine_at_process_server app01-new "$thin_line"
  } >"$sites/process-server.toml"
  for daemon in master-target process-server; do
    show "failback-$daemon" --check-config --config "$sites/$daemon.toml"
    "$failback-$daemon" --check-config --config "$sites/$daemon.toml" | sed 's/^/   /'
    sed 's/^/   | /' "$sites/$daemon.toml"
  done
}

# start_daemon NAME: returns once it answers on its control socket.
start_daemon() {
  local patience=$((wait_seconds * 10))
  show "failback-$1" --config "$sites/$1.toml" "&"
  "$failback-$1" --config "$sites/$1.toml" >>"$sites/$1.log" 2>&1 </dev/null &
  daemon_pids[$1]=$!
  until "$failback" status --socket "$sites/$1/control.sock" >/dev/null 2>&1; do
    if ! kill -0 "${daemon_pids[$1]}" 2>/dev/null || [ $((patience--)) -eq 0 ]; then
      daemon_failed "$1" "does not start"
    fi
    sleep 0.1
  done
}

# daemon_failed NAME WHAT: ends with the daemon's last words.
daemon_failed() {
  tail -5 "$sites/$1.log" >&2
  die "failback-$1 $2"
}

# kill_daemon NAME: the hardest way; nothing is flushed, nobody is told.
kill_daemon() {
  show kill -9 "${daemon_pids[$1]}" "# failback-$1"
  kill -KILL "${daemon_pids[$1]}"
  # The shell would tell of the killed job by itself.
  wait "${daemon_pids[$1]}" 2>/dev/null || true
  unset "daemon_pids[$1]"
}

# stop_daemon NAME: as systemd would.
stop_daemon() {
  local status=0
  show kill "${daemon_pids[$1]}" "# failback-$1"
  kill -TERM "${daemon_pids[$1]}"
  wait "${daemon_pids[$1]}" || status=$?
  unset "daemon_pids[$1]"
  [ $status -eq 0 ] || daemon_failed "$1" "ended with $status"
}

# end_daemons: whatever still runs, when the story ends early.
end_daemons() {
  local pid
  for pid in "${daemon_pids[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  daemon_pids=()
}

# reprotect MACHINE OPTIONS…
reprotect() { command_line reprotect "$@" --yes --socket "$sites/process-server/control.sock"; }

# run_status DAEMON MACHINE: for people.
run_status() { command_line status "$2" --socket "$sites/$1/control.sock"; }

status_json() { "$failback" status "$2" --json --socket "$sites/$1/control.sock"; }

# counter NAME DAEMON MACHINE: one counter of the machine's only disk; 0 before its pass begins.
counter() {
  local value
  # Rates have the same names.
  value=$(figure "$1" "$(status_json "$2" "$3" | grep -o '"counters":{[^}]*')")
  echo "${value:-0}"
}

# stage MACHINE: where its disk stands at the process server. The first of that name is the disk's own.
stage() { status_json process-server "$1" | grep -o '"stage":"[^"]*' | head -1 | cut -d'"' -f4; }

# until_stage MACHINE STAGE
until_stage() {
  local patience=$((wait_seconds * 10)) now
  until now=$(stage "$1") && [ "$now" = "$2" ]; do
    [ "$now" != failed ] || { run_status process-server "$1" >&2; die "$1 failed"; }
    [ $((patience--)) -gt 0 ] || die "$1 is $now after $wait_seconds s, not $2"
    sleep 0.1
  done
}

sealed() { until_stage "$1" sealed; }
retrying() { until_stage "$1" retrying; }

# written_at_least MACHINE PERCENT: waits until the master target wrote that much of what the process server read.
written_at_least() {
  local patience=$((wait_seconds * 10)) wanted=0
  until [ "$wanted" -gt 0 ] && [ "$(counter bytes_written master-target "$1")" -ge "$wanted" ]; do
    wanted=$(($(counter bytes_read_source process-server "$1") * $2 / 100))
    [ $((patience--)) -gt 0 ] || die "nothing was written within $wait_seconds s"
    sleep 0.1
  done
}
