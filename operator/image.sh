#!/bin/sh
# Writes target/images/operator.tar, the operator's image: the given static binary, and nobody's rights.
set -eu

binary=$1
# shellcheck source=e2e/oci-archive.sh
. "$(dirname "$0")/../e2e/oci-archive.sh"

unchanged operator "$binary" && exit
workspace operator
install -D -m 755 "$binary" "$work/top/usr/bin/portable-lb-operator"
pack operator "Portable Load Balancer operator" \
	'--entrypoint ["/usr/bin/portable-lb-operator"] --user 65532:65532' "$work/top"
