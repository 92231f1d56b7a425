# Reads what `go test -v` prints. Of a package that passes it prints one line;
# of one that fails, everything. It appends to the file named by the variable
# skipped each test that was not run, and why. It fails when a package does.
function forget() { held = ""; delete why }
/^(ok|\?) *\t/ {
	if ($0 !~ /no test files/) { print; fflush() }
	forget()
	next
}
/^FAIL\t/ {
	printf "%s%s\n", held, $0
	fflush()
	forget()
	failed = 1
	next
}
/^ *--- SKIP: / {
	sub(/^ *--- SKIP: /, "")
	sub(/ \([0-9.]+s\)$/, "")
	print "  " $0 ": " why[$0] >> skipped
}
# Whose lines follow.
/^=== (RUN|NAME|CONT) / { test = $3 }
# What a test says, but for what the code that it tests logs.
/^ *[a-zA-Z0-9_]+\.go:[0-9]+: / && !/: === RUN/ && !/ level=/ {
	said = $0
	sub(/^ *[a-zA-Z0-9_]+\.go:[0-9]+: /, "", said)
	why[test] = said
}
{
	held = held $0 "\n"
}
END {
	printf "%s", held
	exit failed
}
