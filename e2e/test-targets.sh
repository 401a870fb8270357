#!/bin/sh
# Runs all test targets but those of e2e, as many at once as there are processors: most of them boot a machine of one
# processor and wait for it. What a target says is shown when it has ended.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" = --only ]; then
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	status=0
	cargo test -q --workspace --exclude e2e --exclude lb-agent-fuzz --test "$2" >"$log" 2>&1 || status=$?
	printf '\n--- %s\n' "$2"
	cat "$log"
	exit "$status"
fi

cargo test -q --workspace --exclude e2e --exclude lb-agent-fuzz --test '*' --no-run
# Files are targets, and so are folders with a main.rs; the longest come first.
for path in */tests/*.rs */*/tests/*.rs */tests/*/main.rs */*/tests/*/main.rs; do
	case $path in e2e/*) continue ;; esac
	path=${path%/main.rs}
	basename "$path" .rs
done | sort -u | sed 's/^netns/0 &/; t; s/^/1 /' | sort | sed 's/^[01] //' |
	xargs -P "$(nproc)" -I TARGET "$0" --only TARGET
