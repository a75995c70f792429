#!/usr/bin/env bash
# Run the tests that need no torch with other Pythons: `tests/python_matrix.sh trixie sid python3.12`.
#
# A suite of Debian is installed into a folder by debootstrap, and its Python runs the tests there by chroot: this
# needs root. Any other Python is named by its command or path. Each gets a copy of the tracked files and a virtual
# environment, and both are removed afterwards. No list chooses the tests: those that need torch skip without it.
set -euo pipefail

if [ $# -gt 1 ]; then
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  closing="" status=0
  for wanted in "$@"; do
    "$0" "$wanted" 2>&1 | tee "$log" || status=1
    said=$(grep -E '^Python 3|^[0-9]+ .* in [0-9.]+s' "$log" || echo "no tests ran")
    closing+="$wanted: ${said//$'\n'/, }"$'\n'
  done
  printf '\n%s' "$closing"
  exit "$status"
fi

wanted=${1:?name a suite of Debian or a Python}
place=$(mktemp -d)
trap 'rm -rf --one-file-system "$place"' EXIT

copy_tracked_files() {
  mkdir -p "$1"
  (cd "$(dirname "$0")/.." && git ls-files -z | tar --create --null --files-from=- | tar --extract -C "$1")
}

# What runs in the copy: $1 is the folder, $2 the Python. `make tests` finds the environment ready.
steps='
"$2" -m venv "$1/.venv"
cd "$1"
.venv/bin/pip install -q --disable-pip-version-check ".[test]"
.venv/bin/python -V
exec make -s -o .venv/.ready tests PYTHON=.venv/bin/python VENV=.venv
'

case $wanted in
  python* | */*)
    copy_tracked_files "$place/flowprov"
    sh -euc "$steps" sh "$place/flowprov" "$wanted"
    exit
    ;;
esac

if ! command -v debootstrap >/dev/null; then
  echo "debootstrap is missing: apt-get install debootstrap" >&2
  exit 2
fi
root=$place/root
packages=python3,python3-venv,ca-certificates,make,gcc,libc6-dev,redis-server,iproute2
debootstrap --force-check-gpg --variant=minbase --include="$packages" "$wanted" "$root" >"$place/debootstrap.log" \
  || { tail -n 20 "$place/debootstrap.log" >&2; exit 2; }
copy_tracked_files "$root/flowprov"
# The network and the package index are those of this machine.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/pip.conf \
  "$HOME/.pip/pip.conf" "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf"; do
  if [ -f "$file" ]; then
    mkdir -p "$root$(dirname "$file")"
    cp -L --remove-destination "$file" "$root$file"
  fi
done
# In a mount namespace of its own nothing stays mounted, however this ends. The root is a mount point, because tests
# make such namespaces too.
unshare --mount sh -euc '
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
exec chroot "$1" env -u TMPDIR PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 sh -euc "$2" sh /flowprov python3
' sh "$root" "$steps"
