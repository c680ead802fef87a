#!/usr/bin/env bash
# Puts runc into a folder: node/runc.sh FOLDER. Built by Go alone it would lack libseccomp,
# which is C, and then refuses pods that ask for the runtime's seccomp profile. So it is the
# system's, or else what Debian's package has, which apt verifies and nothing installs.
set -euo pipefail
to=${1:?"usage: $0 FOLDER"}

usable() { "$1" --version 2>/dev/null | grep -q '^libseccomp:'; }

if found=$(command -v runc) && usable "$found"; then
	install -m 755 "$found" "$to/runc"
	exit
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
	echo "a node needs runc with libseccomp; install it (where apt-get is, its package is fetched)" >&2
	exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download runc >&2 || { apt-get update >&2 && apt-get download runc >&2; }
dpkg-deb --extract runc_*.deb .
usable usr/sbin/runc || { echo "Debian's runc does not run here: libseccomp2 is missing" >&2; exit 1; }
install -m 755 usr/sbin/runc "$to/runc"
