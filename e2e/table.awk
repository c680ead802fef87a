# What the test programs came to, from what cargo and libtest print: a row a program, a
# column a file. A test that names itself as left out passes for libtest.

FNR == 1 {
	name = FILENAME
	sub(/.*\//, "", name)
	columns[++count] = name
	program = ""
}

/^ *Running / {
	# Running e2e/main.rs (target/debug/deps/e2e-0123456789abcdef)
	program = $NF
	sub(/.*\//, "", program)
	sub(/-[0-9a-f]+\)$/, "", program)
	if (program in known == 0) {
		known[program] = 1
		rows[++programs] = program
	}
	ran[program, name] = 1
}

/LEFT OUT of / { left[program, name]++ }

/^test result: / {
	# test result: ok. 61 passed; 0 failed; 0 ignored; ...
	passed[program, name] += $4
	failed[program, name] += $6
}

END {
	printf "  %-24s", ""
	for (c = 1; c <= count; c++) printf " %22s", columns[c]
	print ""
	for (r = 1; r <= programs; r++) {
		program = rows[r]
		printf "  %-24s", program
		for (c = 1; c <= count; c++) {
			key = program SUBSEP columns[c]
			text = "-"
			if (key in ran) {
				text = (passed[key] - left[key]) " passed"
				if (left[key]) text = text ", " left[key] " left"
				if (failed[key]) text = text ", " failed[key] " FAILED"
			}
			printf " %22s", text
		}
		print ""
	}
}
