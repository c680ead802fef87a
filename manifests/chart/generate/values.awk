# The values of the chart as a table: the comments of values.yaml that begin with two
# dashes, each with the path and the default of the value below it.

function row() {
	path = key[0]
	for (i = 1; i <= depth; i++) path = path "." key[i]
	gsub(/\|/, "\\|", text)
	printf "| `%s` | %s | %s |\n", path, default_value == "" ? "see values.yaml" : "`" default_value "`", text
	text = ""
}

BEGIN {
	print "| value | default | what it is |"
	print "|---|---|---|"
}

/^ *# -- / { sub(/^ *# -- /, ""); text = $0; next }
/^ *# / { if (text != "") { sub(/^ *# /, ""); text = text " " $0 }; next }
/^ *$/ { text = ""; next }
/^ *[A-Za-z]+:/ {
	match($0, /^ */)
	depth = RLENGTH / 2
	line = substr($0, RLENGTH + 1)
	key[depth] = substr(line, 1, index(line, ":") - 1)
	default_value = substr(line, index(line, ":") + 1)
	sub(/^ */, "", default_value)
	if (text != "") row()
}
