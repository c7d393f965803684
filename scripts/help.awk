# Prints the targets of a Makefile, `target: … ## help`, under the headings, `##@ heading`, that stand above them.
BEGIN { FS = ":.*## " }
/^##@ / { lines[++count] = substr($0, 5); next }
/^[a-z%-]+:.*## / {
    sub(/%/, "NAME", $1)
    targets[++count] = $1
    lines[count] = $2
    if (length($1) > width) width = length($1)
}
END {
    for (i = 1; i <= count; i++)
        if (i in targets) printf "  make %-" width "s  %s\n", targets[i], lines[i]
        else printf "%s%s\n", (i > 1 ? "\n" : ""), lines[i]
}
