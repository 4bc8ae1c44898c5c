# Completion of mcpctl for fish. Printed by: mcpctl completion fish
function __mcpctl_complete
    set -l words (commandline -opc) (commandline -ct)
    mcpctl completion fish --complete $words[2..-1] 2>/dev/null
end
complete -c mcpctl -f -n 'count (__mcpctl_complete) >/dev/null' -a '(__mcpctl_complete)'
complete -c mcpctl -F -n 'not count (__mcpctl_complete) >/dev/null'
