# The faults. An action does one thing to one node or link and returns; heal_all undoes whatever was done. A
# fault is a function of actions and pauses, bounded in time, called with how long to hold; chance is bash's
# RANDOM, seeded by the caller. Sourced by scripts/failure-test.sh.

declare -A frozen stopped full wrong_clock

# name|what happens
fault_table=(
    "none|no fault but moves, joins and leaves: what the others are to be compared with"
    "kill-one|kill -9 of any replica, again and again; each comes back soon"
    "away|kill -9 of a replica; it comes back when the log behind it is gone, and needs a snapshot"
    "kill-leader|kill -9 of the leaders, one after the other"
    "kill-majority|kill -9 of two of three replicas of a group at once"
    "kill-all|kill -9 of every process, then all start again"
    "kill-rolling|kill -9 of every replica in turn, each starts again at once"
    "stop-rolling|the same, orderly by SIGTERM"
    "pause-one|SIGSTOP of any replica for a while"
    "pause-leader|SIGSTOP of a leader until another leads, then SIGCONT: the old one must see it"
    "pause-majority|SIGSTOP of two of three replicas of a group"
    "pause-all|SIGSTOP of every process, SIGCONT of one after the other"
    "cut-leader|a leader is cut off from its group and still reached by clients, who ask it first"
    "cut-one-way|a leader that can send and hears nothing, or hears all and reaches nobody"
    "cut-slow-leader|the same with a leader whose clock is slow: it steps down only after another was elected"
    "cut-halves|a majority and a minority with the leader, in every group"
    "cut-ctrlers|the controllers hear neither each other nor the groups"
    "cut-bridge|two replicas that don't hear each other, a third hears both"
    "cut-random|any links are cut, in any direction, and change all the time"
    "net-loss|packets are lost, 5 to 20 in a hundred"
    "net-delay|packets are late, up to 150 ms, each by another time"
    "net-duplicate|a third of the packets arrives twice"
    "net-reorder|packets overtake each other"
    "net-narrow|links of 20 KB a second"
    "disk-full|the disks of a leader, then of a majority, have no room left"
    "disk-stall|writes of a leader, or of a majority, wait for seconds"
    "disk-error|every write and sync of a leader fails"
    "power-one|a leader loses power: what was not synced is gone, in whole or in pages"
    "power-all|every machine loses power at once"
    "clock-jump|wall clocks jump by an hour, forwards and backwards"
    "clock-rate|clocks run at half to twice the speed"
    "mix|all of them at random, two or three at a time"
)

# ---- Chance: these set $chosen; in $(...) bash would draw from another stream than the seed's

draw() { # a number below N
    chosen=$(((RANDOM * 32768 + RANDOM) % $1))
}
pick() { # one of the arguments
    draw $#
    shift "$chosen"
    chosen=$1
}
pick_node() {
    pick "${all_nodes[@]}"
}
pick_gid() { # the controllers (0) less often
    draw $((3 * n_groups + 1))
    chosen=$(((chosen + 2) / 3))
}
# The leader of the group, or, if nobody leads, any replica.
pick_leader() {
    local gid=$1
    if try_ask leader "$gid" && [ "$reply" != 0 ]; then
        chosen=$(node_of "$gid" "$reply")
    else
        # shellcheck disable=SC2046
        pick $(nodes_of "$gid")
    fi
}
pick_any_leader() {
    pick_gid
    pick_leader "$chosen"
}
# Two of three, one of them the leader; sets $chosen to both.
pick_majority() {
    local gid=$1 leader
    pick_leader "$gid"
    leader=$chosen
    # shellcheck disable=SC2046
    pick $(nodes_of "$gid" | grep -vx "$leader")
    chosen="$leader $chosen"
}
# A pause of so many hundredths of the fault's length.
hold() {
    sleep "$(awk -v s="$hold_s" -v p="$1" 'BEGIN { print s * p / 100 }')"
}

# ---- Actions; each is noted in actions.txt

note() {
    printf '%s %s\n' "$(date -u +%H:%M:%S.%3N)" "$*" >>"$out/actions.txt"
}

do_kill() {
    local name
    note kill "$@"
    for name in "$@"; do
        if [ -n "${pid_of[$name]:-}" ]; then kill -KILL "${pid_of[$name]}" 2>/dev/null || true; fi
    done
    for name in "$@"; do
        if [ -z "${frozen[$name]:-}" ]; then reap_node "$name"; fi
    done
}
do_start() {
    local name
    for name in "$@"; do
        if ! is_running "$name"; then
            reap_node "$name"
            if [ "${disk_state[$name]}" != good ]; then remount_disk "$name"; fi
            note start "$name"
            start_node "$name"
        fi
    done
}
# More than a leader keeps of its log for one that is away, to a few keys that nobody looks at.
do_write_much() {
    note write-much
    timeout 30 nsenter --net="$work/net/net-$client_number" "$bin/shardkv-cli" --ctrlers "$ctrler_urls" bench \
        --op put --clients 8 --connections 2 --value-bytes 100000 --keys 20 --ops 2000 >/dev/null 2>&1 || true
}
do_stop() { # SIGTERM, until it has ended
    local name
    note stop "$@"
    for name in "$@"; do
        if [ -n "${pid_of[$name]:-}" ]; then kill -TERM "${pid_of[$name]}" 2>/dev/null || true; fi
    done
    for name in "$@"; do reap_node "$name"; done
}
do_pause() {
    local name
    note pause "$@"
    for name in "$@"; do
        if [ -n "${pid_of[$name]:-}" ]; then kill -STOP "${pid_of[$name]}" 2>/dev/null || true; fi
        stopped[$name]=1
    done
}
do_resume() {
    local name
    [ $# = 0 ] || note resume "$@"
    for name in "$@"; do
        if [ -n "${pid_of[$name]:-}" ]; then kill -CONT "${pid_of[$name]}" 2>/dev/null || true; fi
        unset "stopped[$name]"
    done
}
numbers() {
    local name list=
    for name in "$@"; do list="$list${list:+,}${number_of[$name]}"; done
    echo "$list"
}
# do_rule "FROM..." "TO..." RULE...: of packets between these nodes, in that direction
do_rule() {
    local from to
    # shellcheck disable=SC2086
    from=$(numbers $1) to=$(numbers $2)
    note rule "$@"
    shift 2
    [ -z "$from" ] || [ -z "$to" ] || net rule "$from" "$to" "$@"
}
do_cut() { # both directions
    do_rule "$1" "$2" cut
    do_rule "$2" "$1" cut
}
# All servers but those given; clients are no servers.
others() {
    local name
    for name in "${all_nodes[@]}"; do
        [[ " $* " == *" $name "* ]] || printf '%s ' "$name"
    done
}
do_freeze() {
    local name
    note freeze "$@"
    for name in "$@"; do
        if [ -z "${frozen[$name]:-}" ] && [ "${disk_state[$name]}" = good ]; then
            frozen[$name]=1
            echo "$name" >>"$work/frozen"
            "$tool" freeze "$work/disk/$name" || unset "frozen[$name]"
        fi
    done
}
do_thaw() {
    local name
    [ $# = 0 ] || note thaw "$@"
    for name in "$@"; do
        if [ -n "${frozen[$name]:-}" ]; then
            "$tool" thaw "$work/disk/$name" || die "the disk of $name can't be thawed"
            unset "frozen[$name]"
        fi
    done
}
do_fill() { # all but some pages
    local name free
    note fill "$@"
    for name in "$@"; do
        [ "${disk_state[$name]}" = good ] && [ -z "${frozen[$name]:-}" ] || continue
        free=$(stat -f -c '%f * %S' "$work/disk/$name")
        fallocate -l $((free - 65536)) "$work/disk/$name/ballast" 2>/dev/null || true
        head -c 65536 /dev/zero >>"$work/disk/$name/ballast" 2>/dev/null || true
        full[$name]=1
    done
}
do_empty() {
    local name
    for name in "$@"; do
        if [ -n "${full[$name]:-}" ]; then
            if rm -f "$work/disk/$name/ballast" 2>/dev/null; then unset "full[$name]"; fi
        fi
    done
}
# Some of what is not synced reaches the disk, in pages; the rest never will.
do_lose_disk() {
    local name i
    note lose-disk "$@"
    for name in "$@"; do
        [ "${disk_state[$name]}" = good ] && [ -z "${frozen[$name]:-}" ] || continue
        for ((i = RANDOM % 4; i > 0; i--)); do
            pick wal state .
            "$tool" write-back "$work/disk/$name/data/$chosen" "$RANDOM" 2>/dev/null || true
        done
        disk_state[$name]=lost
        "$tool" shutdown "$work/disk/$name" || die "the disk of $name can't be shut down"
    done
}
do_power_off() {
    do_lose_disk "$@"
    do_kill "$@"
}
do_clock() { # NODE OFFSET_S RATE
    note clock "$@"
    "$tool" clock "$work/$1.clock" "$2" "$3"
    wrong_clock[$1]=1
}
# Some clients now read first from this node, and write first to the next one of its group, which may follow it.
do_prefer() {
    local name=$1 next
    note prefer "$name"
    if [ "$name" = - ]; then
        ask prefer -
        return
    fi
    next=$(node_of "${gid_of[$name]}" $((${name##*-} % n_replicas + 1)))
    ask prefer "${url_of[$name]}" "${url_of[$next]}"
}

# Whatever was done: undone. Processes that are down start again.
heal_all() {
    local name
    note heal
    net clear
    do_thaw "${!frozen[@]}"
    do_resume "${!stopped[@]}"
    do_empty "${!full[@]}"
    for name in "${!wrong_clock[@]}"; do "$tool" clock "$work/$name.clock" 0 1; done
    wrong_clock=()
    for name in "${all_nodes[@]}"; do
        if [ "${disk_state[$name]}" != good ]; then
            do_kill "$name"
            remount_disk "$name"
        fi
    done
    do_empty "${!full[@]}"
    do_start "${all_nodes[@]}"
    do_prefer -
}

# ---- Faults

fault_none() { hold 100; }
fault_kill-one() {
    local i name
    for i in 1 2 3; do
        pick_node && name=$chosen
        do_kill "$name"
        hold 20
        do_start "$name"
        hold 13
    done
}
fault_away() {
    local name
    draw "$n_groups"
    # shellcheck disable=SC2046
    pick $(nodes_of $((chosen + 1))) && name=$chosen
    do_kill "$name"
    do_write_much
    do_start "$name"
    hold 40
}
fault_kill-leader() {
    local gid name
    for ((gid = 0; gid <= n_groups; gid++)); do
        pick_leader "$gid" && name=$chosen
        do_kill "$name"
        hold 25
        do_start "$name"
    done
    hold 25
}
fault_kill-majority() {
    local names
    pick_gid && pick_majority "$chosen"
    names=$chosen
    # shellcheck disable=SC2086
    do_kill $names
    hold 60
    # shellcheck disable=SC2086
    do_start $names
    hold 40
}
fault_kill-all() {
    do_kill "${all_nodes[@]}"
    hold 10
    do_start "${all_nodes[@]}"
    hold 90
}
fault_kill-rolling() { rolling do_kill; }
fault_stop-rolling() { rolling do_stop; }
rolling() {
    local name
    for name in "${all_nodes[@]}"; do
        "$1" "$name"
        do_start "$name"
        hold 11
    done
}
fault_pause-one() {
    local i name
    for i in 1 2; do
        pick_node && name=$chosen
        do_pause "$name"
        hold 35
        do_resume "$name"
        hold 15
    done
}
fault_pause-leader() {
    local name
    pick_any_leader && name=$chosen
    do_prefer "$name"
    do_pause "$name"
    hold 60
    do_prefer "$name" # anew: what it is asked now it answers as soon as it wakes up
    sleep 0.1
    do_resume "$name"
    hold 40
}
fault_pause-majority() {
    local names
    pick_gid && pick_majority "$chosen"
    names=$chosen
    # shellcheck disable=SC2086
    do_pause $names
    hold 50
    # shellcheck disable=SC2086
    do_resume $names
    hold 50
}
fault_pause-all() {
    local name
    do_pause "${all_nodes[@]}"
    hold 30
    for name in "${all_nodes[@]}"; do
        do_resume "$name"
        draw 30
        sleep "0.$chosen"
    done
    hold 50
}
fault_cut-leader() {
    local name
    draw "$n_groups" && pick_leader $((chosen + 1)) && name=$chosen
    do_prefer "$name"
    do_cut "$name" "$(others "$name")"
    hold 80
    net clear
    hold 20
}
fault_cut-slow-leader() {
    local name other gid i
    for i in 1 2; do
        draw "$n_groups" && gid=$((chosen + 1))
        pick_leader "$gid" && name=$chosen
        for other in $(nodes_of "$gid"); do do_clock "$other" 0 2; done
        do_clock "$name" 0 0.5
        do_prefer "$name"
        do_cut "$name" "$(others "$name")"
        hold 30
        net clear
        hold 10
        for other in $(nodes_of "$gid"); do do_clock "$other" 0 1; done
        hold 10
    done
}
fault_cut-one-way() {
    local name
    pick_any_leader && name=$chosen
    do_prefer "$name"
    if [ $((RANDOM % 2)) = 0 ]; then
        do_rule "$(others "$name")" "$name" cut
    else
        do_rule "$name" "$(others "$name")" cut
    fi
    hold 70
    net clear
    hold 30
}
fault_cut-halves() {
    local gid minority=
    for ((gid = 0; gid <= n_groups; gid++)); do
        pick_leader "$gid"
        minority="$minority $chosen"
    done
    do_prefer "${minority##* }"
    # shellcheck disable=SC2086
    do_cut "$minority" "$(others $minority)"
    hold 80
    net clear
    hold 20
}
fault_cut-ctrlers() {
    local name
    for name in $(nodes_of 0); do do_cut "$name" "$(others "$name")"; done
    hold 80
    net clear
    hold 20
}
fault_cut-bridge() {
    local gid
    for ((gid = 0; gid <= n_groups; gid++)); do
        pick_majority "$gid"
        do_cut "${chosen% *}" "${chosen#* }"
    done
    hold 80
    net clear
    hold 20
}
fault_cut-random() {
    local i j from
    for i in 1 2 3 4; do
        net clear
        for j in 1 2 3 4 5 6 7 8 9; do
            pick_node && from=$chosen
            pick_node && do_rule "$from" "$chosen" cut
            pick_node && do_cut "$from" "$chosen"
        done
        hold 22
    done
    net clear
    hold 12
}
# Everybody's links, the clients' too.
all_links() {
    net rule '*' '*' "$@"
    hold 90
    net clear
    hold 10
}
fault_net-loss() { all_links loss $((50 + RANDOM % 150)); }
fault_net-delay() { all_links delay $((5000 + RANDOM % 20000)) jitter $((20000 + RANDOM % 100000)); }
fault_net-duplicate() { all_links dup 333; }
fault_net-reorder() { all_links reorder 300 delay 8000 jitter 12000; }
fault_net-narrow() { all_links rate 20000; }
fault_disk-full() {
    local gid
    pick_gid && gid=$chosen
    pick_leader "$gid" && do_fill "$chosen"
    hold 45
    pick_majority "$gid"
    # shellcheck disable=SC2086
    do_fill $chosen
    hold 35
    do_empty "${!full[@]}"
    hold 20
}
fault_disk-stall() {
    local gid names
    pick_gid && gid=$chosen
    pick_leader "$gid" && names=$chosen
    do_freeze "$names"
    hold 40
    do_thaw "$names"
    pick_majority "$gid" && names=$chosen
    # shellcheck disable=SC2086
    do_freeze $names
    hold 30
    # shellcheck disable=SC2086
    do_thaw $names
    hold 30
}
fault_disk-error() {
    local name
    pick_any_leader && name=$chosen
    do_lose_disk "$name"
    hold 60
    do_kill "$name"
    do_start "$name"
    hold 40
}
fault_power-one() {
    local i name
    for i in 1 2; do
        pick_any_leader && name=$chosen
        do_power_off "$name"
        hold 25
        do_start "$name"
        hold 25
    done
}
fault_power-all() {
    do_power_off "${all_nodes[@]}"
    hold 10
    do_start "${all_nodes[@]}"
    hold 90
}
fault_clock-jump() {
    local i name
    for i in 1 2 3 4; do
        pick_node && name=$chosen
        pick -3600 3600 -3600 3600 -7200 7200 && do_clock "$name" "$chosen" 1
        hold 15
        pick_any_leader && name=$chosen
        pick -3600 3600 && do_clock "$name" "$chosen" 1
        hold 10
    done
}
fault_clock-rate() {
    local name i
    for i in 1 2; do
        for name in "${all_nodes[@]}"; do
            pick 0.5 0.7 1 1.4 2 && do_clock "$name" 0 "$chosen"
        done
        hold 50
    done
}

random_action() {
    local name other
    pick_node && name=$chosen
    if [ $((RANDOM % 2)) = 0 ]; then pick_any_leader && name=$chosen; fi
    pick_node && other=$chosen
    case $((RANDOM % 12)) in
    0 | 1) do_kill "$name" ;;
    2) do_pause "$name" ;;
    3) do_cut "$name" "$(others "$name")" ;;
    4) do_rule "$name" "$(others "$name")" cut ;;
    5) do_rule "$(others "$name")" "$name" cut ;;
    6) do_cut "$name" "$other" ;;
    7) pick loss dup && net rule '*' '*' "$chosen" $((20 + RANDOM % 80)) delay $((RANDOM % 10000)) ;;
    8) do_freeze "$name" ;;
    9) do_fill "$name" ;;
    10) do_power_off "$name" ;;
    11)
        pick 0 3600 -3600 && other=$chosen
        pick 0.5 1 2 && do_clock "$name" "$other" "$chosen"
        ;;
    esac
    if [ $((RANDOM % 3)) = 0 ]; then do_prefer "$name"; fi
}
# Four actions at a time at most: then all but the clocks and, half of the time, the links comes back.
fault_mix() {
    local i
    for ((i = 0; i < 12; i++)); do
        random_action
        if [ $((i % 4)) = 3 ]; then
            do_thaw "${!frozen[@]}"
            do_resume "${!stopped[@]}"
            do_empty "${!full[@]}"
            do_start "${all_nodes[@]}"
            if [ $((RANDOM % 2)) = 0 ]; then net clear; fi
        fi
        hold 8
    done
}
