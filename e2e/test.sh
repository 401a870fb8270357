#!/bin/sh
# Runs all tests, the cheapest first, and ends at the first stage that fails. A lab that it starts it also stops.
set -eu
cd "$(dirname "$0")/.."

logs=target/lab/logs
begun=$(date +%s)
times=
stage=
started=

# run STAGE.. : runs these targets of the Makefile, and notes how long each takes.
run() {
	for stage in "$@"; do
		printf '\n=== %s\n' "$stage"
		since=$(date +%s)
		"${MAKE:-make}" --no-print-directory "$stage"
		times="$times$(printf '%-14s %5d s' "$stage" "$(($(date +%s) - since))")
"
	done
}

# What a reader of a failed run wants first: the state of the cluster, and how each log ended.
explain() {
	case $stage in lab-up | test-cluster) ;; *) return 0 ;; esac
	printf '\n=== the lab when %s failed\n' "$stage"
	cargo run -q --bin lab -- kubectl get nodes,portableloadbalancers,pods --all-namespaces --output wide --request-timeout 10s || true
	for log in "$logs"/*.log; do
		[ -s "$log" ] || continue
		printf '\n--- the end of %s\n' "$log"
		tail -n 5 "$log" | cut -c -300
	done
}

finish() {
	status=$?
	trap - EXIT
	if [ "$status" -ne 0 ]; then
		explain
	fi
	if [ -n "$started" ]; then
		printf '\n=== lab-down\n'
		"${MAKE:-make}" --no-print-directory lab-down || [ "$status" -ne 0 ] || status=1
	fi
	printf '\n%s%-14s %5d s\n' "$times" "all" "$(($(date +%s) - begun))"
	if [ "$status" -ne 0 ]; then
		printf 'FAILED at %s; logs of the lab, if it ran: %s\n' "$stage" "$logs"
	else
		echo "all tests passed"
	fi
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

run check test-unit test-fuzz tools images test-api
[ -e /run/netns/plb-lab ] || started=yes
run lab-up test-cluster
