# Reads what `go test -v` prints. Of a package that passes it prints one line, and if it
# took longer than a minute, which tests took longest; of one that fails, everything, and once more at the very end what failed and where it stood:
# the tests, the last of what they said, and of a panic, a race or a test that was given
# up the goroutines of tests alone. That goes to the file named by the variable failed
# as well, if there is one. To the file named by skipped it appends each test that was
# not run, and why. It fails when a package does.
BEGIN { most = 40 } # lines of all that failed
function forget() { held = brief = paragraph = state = ""; delete why; delete said; delete running; delete took; delete begun }
# The five longest tests of a package, in whole seconds.
function longest(    i, name, best, text) {
	for (i = 1; i <= 5; i++) {
		best = ""
		for (name in took) { if (best == "" || took[name] > took[best]) { best = name } }
		if (best == "") { break }
		text = text (i > 1 ? ", " : "") best " " int(took[best]) " s"
		delete took[best]
	}
	return text
}
function add(line) { brief = brief substr(line, 1, 300) "\n" }
# Ends a goroutine's lines: of a test that was given up those count that stand in it.
function close_paragraph(    name, wanted) {
	wanted = state == "first"
	for (name in running) { if (index(paragraph, "." name "(") || index(paragraph, "." name ".")) { wanted = 1 } }
	if (wanted) { brief = brief paragraph }
	if (state == "first" && paragraph != "") { state = "" }
	paragraph = ""; lines = 0
}
/^(ok|\?) *\t/ {
	if ($0 !~ /no test files/) { print; if ($3 + 0 > 60) { print "    longest: " longest() }; fflush() }
	forget()
	next
}
/^FAIL\t/ {
	close_paragraph()
	if (state == "killed") { for (name in begun) { add("    not over: " name) } }
	printf "%s%s\n", held, $0
	fflush()
	all = all brief $0 "\n"
	forget()
	bad = 1
	next
}
/^ *--- SKIP: / {
	delete begun[$3]
	sub(/^ *--- SKIP: /, "")
	sub(/ \([0-9.]+s\)$/, "")
	print "  " $0 ": " why[$0] >> skipped
}
/^=== (RUN|CONT) / { begun[$3] }
/^=== PAUSE / { delete begun[$3] }
/^ *--- (PASS|FAIL): / { delete begun[$3] }
/^--- (PASS|FAIL): / { took[$3] = substr($4, 2) + 0 }
/^ *--- FAIL: / { add($0); brief = brief said[$3]; delete said[$3] }
# Whose lines follow.
/^=== (RUN|NAME|CONT) / { test = $3 }
# What a test says, but for what the code that it tests logs, and where logs of programs
# begin: the last eight lines.
/^ *[a-zA-Z0-9_]+\.go:[0-9]+: / && !/: === RUN/ && !/ level=/ && !/: end of the log of |: end of [a-z.-]*\.log:/ {
	text = $0
	sub(/^ */, "", text)
	said[test] = said[test] "        " substr(text, 1, 300) "\n"
	if (gsub(/\n/, "\n", said[test]) > 8) { sub(/^[^\n]*\n/, "", said[test]) }
	sub(/^[a-zA-Z0-9_]+\.go:[0-9]+: /, "", text)
	why[test] = text
}
# A program that had to be killed does not say what it was doing.
/^\*\*\* Test killed/ { add($0); state = "killed" }
# A panic, a race, or a time that is over. A race ends with a line of =.
/^(panic: |fatal error: |WARNING: DATA RACE)/ { state = "first"; paragraph = ""; lines = 0; add($0); held = held $0 "\n"; next }
state != "" && /^\trunning tests:$/ { state = "running"; add($0); held = held $0 "\n"; next }
state == "running" && /^\t\tTest|^\t\tFuzz|^\t\tExample/ { add($0); name = $1; sub(/\/.*/, "", name); running[name] }
state == "running" && /^$/ { state = "all" }
state != "" && state != "killed" && /^$|^=======/ { close_paragraph() }
state == "first" && /^=======/ { state = "" }
(state == "first" || state == "all") && !/^$|^====/ && lines++ < 16 { paragraph = paragraph "    " substr($0, 1, 200) "\n" }
{
	held = held $0 "\n"
}
END {
	printf "%s", held
	if (bad) {
		n = split(all, line, "\n") - 1
		for (i = 1; i <= n && i <= most; i++) { what = what line[i] "\n" }
		if (n > most) { what = what "… and " n - most " lines more of what failed, above\n" }
		printf "\nWhat failed:\n%s", what
		if (failed) { printf "%s", what >> failed }
	}
	exit bad
}
