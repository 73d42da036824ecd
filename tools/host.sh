# shellcheck shell=bash
# What every tool asks of the host: the project's folder, root rights, Debian packages, Rust, a Python environment.
# Sourced, never run.
#
# Invariant: nothing is installed that is there already, and nothing at all once `no_install` is 1; then what is
# missing ends the tool with one message that names everything missing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
no_install=${no_install:-0}
readonly rust_needed=1.95

# Every package the tests and the lab use, by reason. One list, so that what is said is what is installed.
# shellcheck disable=SC2034 # used where this is sourced
{
  readonly build_packages="gcc libc6-dev"
  readonly judge_packages="qemu-utils libvmdk-utils python3-venv"
  readonly disk_packages="e2fsprogs fdisk util-linux mount"
  readonly fault_packages="nbdkit libnbd-bin fuse3 iproute2 libfaketime"
  readonly cloud_packages="nodejs npm"
}
readonly python_packages="dissect.hypervisor==3.21"

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

say() { printf '\n== %s\n' "$*"; }

# as_root COMMAND…: as it is when we are root, else through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

require_root_rights() {
  [ "$(id -u)" -eq 0 ] && return
  command -v sudo >/dev/null || die "needs root for loop devices and mounts: run it as root, or install sudo"
  sudo -v || die "needs root for loop devices and mounts, and sudo was refused"
}

# missing_packages PACKAGE…: those that are not installed. sbin is searched too: ordinary users lack it in PATH.
missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || printf '%s ' "$package"
  done
}

# need_packages PACKAGE…: installs what is missing, or says what to install.
need_packages() {
  local missing
  missing=$(missing_packages "$@")
  [ -z "$missing" ] && return
  if [ "$no_install" -eq 1 ]; then die "missing packages: $missing"; fi
  say "installing packages: $missing"
  as_root apt-get -o DPkg::Lock::Timeout=180 update -qq
  # shellcheck disable=SC2086 # a list of names
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=180 install -y -qq \
    --no-install-recommends $missing >/dev/null
}

# use_callers_rust: under sudo the calling user's toolchain serves. What cargo fetches then goes below target/, which is
# given back at the end, so that nothing in that user's home comes to belong to root.
use_callers_rust() {
  local home theirs cargo config
  if [ "$(id -u)" -ne 0 ] || [ "${SUDO_UID:-0}" -eq 0 ]; then return; fi
  home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
  theirs=${CARGO_HOME:-$home/.cargo}
  export CARGO_HOME=$root/target/cargo
  mkdir -p "$CARGO_HOME"
  # The toolchain itself, not rustup in front of it: that writes into its own folder, as root then.
  if [ -x "$theirs/bin/rustup" ] && [ "$theirs" != "$CARGO_HOME" ]; then
    cargo=$(cd "$root" && runuser -u "$(id -nu "$SUDO_UID")" -- env HOME="$home" "$theirs/bin/rustup" which cargo) ||
      die "rustup of $(id -nu "$SUDO_UID") names no toolchain: rustup default stable"
    PATH=$(dirname "$cargo"):$PATH
  elif [ -x "$theirs/bin/cargo" ]; then
    PATH=$theirs/bin:$PATH
  fi
  # Mirrors and proxies of that user hold for root too.
  for config in config config.toml; do
    [ ! -e "$theirs/$config" ] || ln -sfn "$theirs/$config" "$CARGO_HOME/$config"
  done
}

# need_rust: a cargo of the version the workspace is written for. The one thing that no tool installs.
need_rust() {
  local version
  use_callers_rust
  command -v cargo >/dev/null ||
    die "no cargo found. Install Rust $rust_needed or newer yourself (rustup, https://rustup.rs; a distribution's may be too old), then try again"
  version=$(cd "$root" && cargo --version | cut -d' ' -f2)
  [ "$(printf '%s\n' "$rust_needed" "$version" | sort -V | head -1)" = "$rust_needed" ] ||
    die "needs Rust $rust_needed or newer, this is $version: rustup update"
}

# need_python: target/venv with the readers that only Python has.
need_python() {
  local python=$root/target/venv/bin/python package=${python_packages%%==*}
  "$python" -c "import $package" 2>/dev/null && return
  if [ "$no_install" -eq 1 ]; then die "missing Python environment target/venv with $python_packages"; fi
  say "making target/venv with $python_packages"
  mkdir -p "$root/target"
  python3 -m venv --clear "$root/target/venv"
  "$root/target/venv/bin/pip" install --quiet --disable-pip-version-check "$python_packages"
}

# need_azurite: target/azurite with the emulator of page blobs, as its lock file says. Any Node.js from 18 serves.
need_azurite() {
  local folder=$root/target/azurite lock=package-lock.json
  cmp -s "$root/tools/azurite/$lock" "$folder/$lock" && [ -x "$folder/node_modules/.bin/azurite-blob" ] && return
  # shellcheck disable=SC2086 # a list of names
  command -v npm >/dev/null || need_packages $cloud_packages
  if [ "$no_install" -eq 1 ]; then die "missing emulator of page blobs: target/azurite"; fi
  say "making target/azurite"
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$root/tools/azurite/package.json" "$root/tools/azurite/$lock" "$folder/"
  (cd "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts) || {
    rm -rf "$folder"
    die "npm could not install the emulator of page blobs"
  }
}

# root_runner: lets `cargo test` build as this user and run what it built as root.
root_runner() {
  local triple
  triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
  export "CARGO_TARGET_${triple}_RUNNER=sudo --preserve-env"
}

# give_back: what root made under target/ belongs to whoever called through sudo.
give_back() {
  local owner=${SUDO_UID:-}
  if [ "$(id -u)" -ne 0 ]; then owner=$(id -u); fi
  [ -n "$owner" ] && [ -d "$root/target" ] || return 0
  as_root find "$root/target" -xdev ! -uid "$owner" -exec chown -h "$owner" {} +
}

# sbin holds losetup and mkfs; ordinary users lack it.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
