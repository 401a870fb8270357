#!/bin/sh
# Installs the Debian packages of e2e/packages that this machine lacks; does nothing if it lacks none.
set -eu

list=$(dirname "$0")/packages
missing=
while read -r name hash why; do
	case $name in '' | '#') continue ;; esac
	if [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" != installed ]; then
		printf 'deps: %s is missing: %s\n' "$name" "$why"
		missing="$missing $name"
	fi
done <"$list"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	printf 'deps: run as root, or install them yourself: apt-get install --no-install-recommends%s\n' "$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
# The names are split on purpose.
# shellcheck disable=SC2086
apt-get -qy install --no-install-recommends $missing
