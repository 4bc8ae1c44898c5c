#compdef mcpctl
# Completion of mcpctl for zsh. Printed by: mcpctl completion zsh
_mcpctl() {
    local -a found
    local line
    while IFS= read -r line; do
        [[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done < <(mcpctl completion zsh --complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( $#found )); then
        _describe mcpctl found
    else
        _files
    fi
}
if [[ $funcstack[1] == _mcpctl ]]; then
    _mcpctl "$@"
else
    compdef _mcpctl mcpctl
fi
