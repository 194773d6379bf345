# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What scripts/quickstart needs of JSON: strings of a document, and of a refusal its words. Sourced.

# quoted TEXT: as JSON and curl's configuration take it.
quoted()
{
	printf '"%s"' "$(printf '%s' "$1" | tr -d '\n\t' | sed 's/[\\"]/\\&/g')"
}

# fields NAME: all string fields of that name in the JSON on stdin, each on a line of its own.
fields()
{
	awk -v name="\"$1\":[ ]*" '
		{ text = text $0 " " }
		END {
			while (match(text, name "\"([^\"\\\\]|\\\\.)*\"")) {
				value = substr(text, RSTART, RLENGTH)
				text = substr(text, RSTART + RLENGTH)
				match(value, name)
				value = substr(value, RLENGTH + 2, length(value) - RLENGTH - 2)
				gsub(/\\\\/, "\001", value)
				gsub(/\\[nrt]/, " ", value)
				gsub(/\\/, "", value)
				gsub(/\001/, "\\", value)
				print value
			}
		}'
}

# field NAME: the first of them.
field()
{
	fields "$1" | head -n 1
}

# refusal DOCUMENT: why it was refused, in one line: what is wrong with each field, else the detail, else the title.
refusal()
{
	words=$({ printf '%s' "$1" | fields field; printf '%s' "$1" | fields reason; } | awk '
		{ line[NR] = $0 }
		END { for (i = 1; i <= NR / 2; i++) printf "%s%s %s", (i > 1 ? "; " : ""), line[i], line[i + NR / 2] }')
	for name in detail title; do
		[ -n "$words" ] || words=$(printf '%s' "$1" | field "$name")
	done
	printf '%s' "${words:-${1:-there was no answer}}"
}
