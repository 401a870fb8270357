#!/bin/sh
# Names a toolchain that is missing, and installs the Debian packages of the given lists that this machine lacks.
set -eu

# want COMMAND HOW : fails with the way to get a command that no package gives.
want() {
	command -v "$1" >/dev/null || {
		echo "deps: $1 is missing: $2" >&2
		exit 1
	}
}

go=$(sed -n 's/^go //p' "$(dirname "$0")"/tools/*/go.mod | sort -V | tail -n 1)
want cargo "install Rust as https://rustup.rs says, then open a new shell"
want go "unpack Go $go or newer from https://go.dev/dl to /usr/local"

missing=
lists=$(cat "$@")
while read -r name _ why; do
	case $name in '' | '#') continue ;; esac
	if [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" != installed ]; then
		echo "deps: $name is missing: $why"
		missing="$missing $name"
	fi
done <<END
$lists
END

if [ -n "$missing" ]; then
	install="apt-get -qy install --no-install-recommends$missing"
	if [ "$(id -u)" -ne 0 ]; then
		echo "deps: only root can install them: $install" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update
	$install
fi
