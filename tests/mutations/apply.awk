# Applies a mutation to its source file: awk -f apply.awk MUTATION SOURCE >MUTATED.
# The hunk of a mutation is what follows its first empty line: lines with "-" are taken out, lines
# with "+" put in, lines with a space stay. What is taken out and what stays must be found together
# exactly once; otherwise nothing is printed and the exit code is 3.
FNR == 1 { file++ }
file == 1 && !in_hunk { in_hunk = $0 == ""; next }
file == 1 {
    sign = substr($0, 1, 1)
    text = substr($0, 2)
    if (sign == "-" || sign == " ") old[++n_old] = text
    if (sign == "+" || sign == " ") new[++n_new] = text
    changes += sign == "-" || sign == "+"
    bad += sign != "-" && sign != "+" && sign != " "
    next
}
{ line[++n] = $0 }
END {
    if (n_old == 0 || changes == 0 || bad > 0) {
        print "malformed hunk" >"/dev/stderr"
        exit 3
    }
    for (i = 1; i + n_old - 1 <= n; i++) {
        for (j = 1; j <= n_old && line[i + j - 1] == old[j]; j++) { }
        if (j > n_old) {
            at = i
            found++
        }
    }
    if (found != 1) {
        print "its lines are found " found + 0 " times, not once" >"/dev/stderr"
        exit 3
    }
    for (i = 1; i < at; i++) print line[i]
    for (j = 1; j <= n_new; j++) print new[j]
    for (i = at + n_old; i <= n; i++) print line[i]
}
