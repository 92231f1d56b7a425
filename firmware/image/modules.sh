#!/bin/sh
# modules.sh KERNEL OUT [NAME...]: copies the NAMEd modules of a kernel, and what
# they depend on, into OUT, flat, and writes OUT/list: one a line, in the order
# in which they are to be loaded. What the kernel has built in is left out.
set -eu
. "$(dirname "$0")/common.sh"

kernel=$1 out=$2
shift 2
tree=$kernel/lib/modules/$(cat "$kernel/release")
rm -rf "$out"
mkdir -p "$out"
for name; do
	# In file names, - and _ mean the same.
	pattern="(^|/)$(echo "$name" | sed 's/[-_]/[-_]/g')[.]ko"
	if line=$(grep -E "$pattern:" "$tree/modules.dep"); then
		# The dependencies stand in the reverse order of loading.
		for file in $line; do echo "${file%:}"; done | tac
	elif ! grep -qE "$pattern" "$tree/modules.builtin"; then
		die "the kernel $(cat "$kernel/release") has no module $name"
	fi
done | awk '!seen[$0]++' | while read -r file; do
	cp "$tree/$file" "$out/"
	basename "$file" .ko
done >"$out/list"
