# bash completion for shardkv-cli: source it, or put it into
# /usr/share/bash-completion/completions/shardkv-cli.
_shardkv_cli() {
    local verbs='get put append del cas scan config join leave move moves replica status transfer wait pipe shell
        bench version help'
    local globals='--ctrlers --json --timeout --prefer --tls-cert --tls-key --tls-ca --help'
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb= i options=

    case $prev in
    --tls-cert | --tls-key | --tls-ca)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --op)
        mapfile -t COMPREPLY < <(compgen -W 'put get append mixed' -- "$cur")
        return
        ;;
    --ctrlers | --timeout | --prefer | --limit | --expect | --clients | --connections | --keys | \
        --key-bytes | --value-bytes | --seconds | --ops | --rate | --read-ratio)
        return
        ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --ctrlers | --timeout | --prefer | --tls-cert | --tls-key | --tls-ca) i=$((i + 1)) ;;
        -*) ;;
        *)
            verb=${COMP_WORDS[i]}
            break
            ;;
        esac
    done
    case $verb in
    '' | help) options=$verbs ;;
    get) options='--raw' ;;
    cas) options='--absent --expect' ;;
    scan) options='--limit --keys-only' ;;
    wait) options='--shards' ;;
    join | leave | move) options='--dry-run' ;;
    moves) options='pause resume' ;;
    replica) options='add remove replace list recover --no-wait --dry-run --yes --force' ;;
    bench) options='--op --read-ratio --clients --connections --key-bytes --value-bytes --keys
        --seconds --ops --rate --fill' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options $globals" -- "$cur")
}
complete -F _shardkv_cli shardkv-cli
