# Completion of mcpctl for bash. Printed by: mcpctl completion bash
_mcpctl() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [[ -n $line ]] && COMPREPLY+=("${line%%$'\t'*}")
    done < <(mcpctl completion bash --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _mcpctl mcpctl
